"""Ready-made schedules for a daily purge: `secmem purge --print-schedule`. Pure.

Each runs once a day, never twice at once, with a limit on what may go, and never tries again by itself: an exit code of 3,
4 or 5 is for a person to look at.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

ELSEWHERE = Path("/var/lib/secmem/support.secmem")
"""The store that a schedule names where none was given."""

_CRON = """\
# /etc/cron.d/secmem-purge: what is due goes every night. A percent sign is escaped, since cron ends a line there.
# Exit codes: 5 a limit stopped it, 7 another purge is at it, 3 and 4 treat as an incident. Never retry 3, 4, 5.
# The anchors are where the agents have them (SECMEM_ANCHOR).
MAILTO=root
SECMEM_KEY_FILE=/etc/secmem/key
SECMEM_ANCHOR=/var/lib/secmem-anchor
17 3 * * *  secmem  secmem purge --store {store} --apply --max-delete 5\\% --actor service:purge --reason "nightly purge"
"""
_SYSTEMD = """\
# /etc/systemd/system/secmem-purge.service
[Unit]
Description=Delete what secure-memory's retention policy says is due

[Service]
Type=oneshot
User=secmem
# The anchors are where the agents have them.
Environment=SECMEM_KEY_FILE=%d/key SECMEM_ANCHOR=/var/lib/secmem-anchor
LoadCredential=key:/etc/secmem/key
ExecStart=secmem purge --store {store} --apply --max-delete 5%% --actor service:purge --reason "nightly purge"
Restart=no

# /etc/systemd/system/secmem-purge.timer    (systemctl enable --now secmem-purge.timer)
[Unit]
Description=Every night

[Timer]
OnCalendar=*-*-* 03:17:00
RandomizedDelaySec=10m
Persistent=true

[Install]
WantedBy=timers.target
"""
_K8S = """\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: secmem-purge
spec:
  schedule: "17 3 * * *"
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      backoffLimit: 0                     # never retry: exit codes 3, 4 and 5 are for a person
      template:
        spec:
          restartPolicy: Never
          containers:
            - name: purge
              image: registry.example.com/your-image-with-secure-memory
              args: [secmem, purge, --store, {store}, --apply, --max-delete, "5%", --actor, "service:purge",
                     --reason, "nightly purge"]
              env:
                - {{name: SECMEM_KEY_FILE, value: /etc/secmem/key}}
                - {{name: SECMEM_ANCHOR, value: /var/lib/secmem-anchor}}    # where the agents have it
              volumeMounts:
                - {{name: store, mountPath: {parent}}}
                - {{name: anchor, mountPath: /var/lib/secmem-anchor}}
                - {{name: key, mountPath: /etc/secmem, readOnly: true}}
          volumes:
            - {{name: store, persistentVolumeClaim: {{claimName: secmem-store}}}}
            - {{name: anchor, persistentVolumeClaim: {{claimName: secmem-anchor}}}}
            - {{name: key, secret: {{secretName: secmem-key, defaultMode: 0440}}}}
"""
SCHEDULES = {"cron": _CRON, "systemd": _SYSTEMD, "k8s": _K8S}


def text(kind: str, store: Path | None) -> str:
    """The schedule for that store, quoted as its reader needs it."""
    place = (store or ELSEWHERE).absolute()
    quoted = {
        "cron": shlex.quote(str(place)).replace("%", "\\%"),
        "systemd": json.dumps(str(place)).replace("%", "%%") if " " in str(place) else str(place).replace("%", "%%"),
        "k8s": json.dumps(str(place)),
    }
    return SCHEDULES[kind].format(store=quoted[kind], parent=json.dumps(str(place.parent)))
