"""Which answer each error of the rooms below leads to."""

from __future__ import annotations

import errno

from cowherd.errors import HostError, HostFileError, InvalidRequest
from cowherd.herd.records.signing import SigningUnavailable
from cowherd.service.intake.faults import (
    DigestsDiffer,
    LengthDiffers,
    OffsetDiffers,
    Refused,
    SignatureRefused,
    StoreFull,
    TooLarge,
)
from cowherd.service.intake.lineage import MoreVisible
from cowherd.service.keeping.faults import ContentDamaged
from cowherd.service.records import faults
from cowherd.service.tasks.addresses import AddressRefused
from cowherd.service.web import errors
from cowherd.stores.faults import BlobMissing, StillArriving

_TABLE: tuple[tuple[type[Exception], type[errors.WebError]], ...] = (
    (faults.ImageNotFound, errors.NotFound),
    (faults.ImageExists, errors.Conflict),
    (faults.ImageChanged, errors.Conflict),
    (faults.StatusConflict, errors.Conflict),
    (faults.MemberNotFound, errors.NotFound),
    (faults.MemberExists, errors.Conflict),
    (faults.TaskNotFound, errors.NotFound),
    (faults.QuotaExceeded, errors.TooLarge),
    (faults.DefinitionNotFound, errors.NotFound),
    (faults.DefinitionExists, errors.Conflict),
    (faults.MarkerNotFound, errors.BadRequest),
    (faults.Unstorable, errors.BadRequest),
    (faults.DatabaseUnavailable, errors.Unavailable),
    (Refused, errors.UnsupportedMedia),
    (SignatureRefused, errors.BadRequest),
    (SigningUnavailable, errors.Unavailable),
    (MoreVisible, errors.Conflict),
    (LengthDiffers, errors.BadRequest),
    (OffsetDiffers, errors.Conflict),
    (DigestsDiffer, errors.ChecksumMismatch),
    (StillArriving, errors.Locked),
    (StoreFull, errors.TooLarge),
    (TooLarge, errors.TooLarge),
    (BlobMissing, errors.Unavailable),
    (ContentDamaged, errors.Unavailable),
    (AddressRefused, errors.BadRequest),
    (InvalidRequest, errors.BadRequest),
)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def web_error_of(error: Exception) -> errors.WebError | None:
    """Returns what a client is told of an error, None for one that is a fault of the service's own."""
    if isinstance(error, errors.WebError):
        return error
    for kind, answer in _TABLE:
        if isinstance(error, kind):
            return answer(str(error))
    if isinstance(error, HostFileError):
        # Names of the host's files are no business of a client's.
        kind = errors.TooLarge if error.errno in _NO_ROOM else errors.Unavailable
        return kind(f"The store could not {error.action} a file: {error.reason}")
    if isinstance(error, HostError):
        return errors.Unavailable(f"The host refused: {error.reason}")
    return None
