"""What happens to whole sessions, people, tenants and stores.

Each topic has a module that `SecureStore` takes its methods from, and others that do a part of it:

    governing           the policy: put in force, asked; explaining: what it does with one conversation
    holding             legal holds
    transfer            import: importing, intake, foreign, looks, envelope, spending; export: exporting
    cleansing           redaction of what is stored already; scanning: counting it
    purge               what is due: surveying, fates, closure find it, purge_plan and safety hold it up, purging, disposing
                        and entries do it
    archives            archive, archiving: what was due, and is kept elsewhere
    erasing             erase, erase_tenant; withhold: what a law or a hold keeps of it; searching, traces: whether anything
                        is left; certificate: what is said of it
    rotating            rotate, resealing: new keys under live processes
    backup, restore     backup_set; assembling, replacing, reviving; reserve: room for what must work on a full disk
    subject_export      everything kept about a person; records: who looked at it
"""
