"""Replacing keys, as a store's method: `SecureStore` has it from `Rotations`."""

from __future__ import annotations

from dataclasses import dataclass

from secure_memory.facet import Facet
from secure_memory.lifecycle.rotation import resealing, rotate
from secure_memory.shared import SYSTEM_TENANT


@dataclass(frozen=True, slots=True)
class RotationReport:
    """What was replaced: `what` is kek, epoch, vault or subject. `kek` is the id of the KEK that wraps the store root now,
    `destroyed` are those that were destroyed; `version` is the new key's; `sessions` and `items` were sealed anew."""

    what: str
    kek: str | None = None
    destroyed: tuple[str, ...] = ()
    version: int | None = None
    sessions: int = 0
    items: int = 0


class Rotations(Facet):
    """The method of a store that replaces keys. `SecureStore` has the rest."""

    def key_rotate(
        self,
        *,
        epoch: bool = False,
        vault: str | None = None,
        subject: str | None = None,
        tenant: str = "default",
        new_key: bool = False,
        destroy_old: bool = False,
    ) -> RotationReport:
        """Replace one key while the store is in use: the KEK that wraps the store root, where nothing else is said; with
        `epoch` the store root too; the key of the file of the tenant named by `vault`; or those of a `subject` of `tenant`.

        `new_key` makes a new KEK in the key file first; `destroy_old` destroys every KEK but the newest, once it wraps.
        Each step is a `key.rotate` or `key.destroy` entry. Interrupted, run it again.

        Raises ValueError for what does not go together, ConfigurationError where there is nothing to do or no such tenant or
        subject, KeyManagementError, StoreBusyError, AccessDeniedError.
        """
        if (epoch, vault is not None, subject is not None).count(True) > 1:
            raise ValueError("one key is rotated at a time: epoch, vault or subject")
        if (vault is not None or subject is not None) and (new_key or destroy_old):
            raise ValueError("new_key and destroy_old are about the KEK")
        shared, who = self._open(), self._who()
        if vault is not None:
            one = shared.system if vault == SYSTEM_TENANT else shared.existing_tenant(vault)
            return RotationReport("vault", version=rotate.rotate_vault(shared, one, who))
        if subject is not None:
            done = resealing.rotate_subject(shared, shared.existing_tenant(tenant), subject, who)
            return RotationReport("subject", version=done.version, sessions=done.sessions, items=done.items)
        if epoch:
            kek, destroyed = rotate.turn_epoch(shared, who, new_key=new_key)
            return RotationReport("epoch", kek, tuple(destroyed))
        kek, destroyed = rotate.rotate_kek(shared, who, new_key=new_key, destroy_old=destroy_old)
        return RotationReport("kek", kek, tuple(destroyed))
