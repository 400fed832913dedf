"""A store of results: each in one folder, written whole or not at all, under a key of all that it depends on.

STORE/stage/key/            finished: artifact.json (what the result is, hashes of its files) and the files
STORE/stage/key.partial/    unfinished: states, from which an interrupted stage resumes
STORE/stage/key.lock        lets two processes that want the same result compute it once

What is verified when: when a process opens a result for the first time, its files, weights included, are
compared with their hashes, and their set with that on record; again once the size, the time or the inode of
one of them has changed. States of unfinished results have digests; a stage begins anew where one is damaged.
Files of the user in an unfinished result are refused by name, and never deleted.
"""

from makebreak.store.checks import (
    OMITTED_FILE,
    RECORD_FILE,
    DamagedArtifact,
    check,
    check_copy,
    check_not_omitted,
    check_presence,
    omitted_files,
    read_verified,
    record,
    verify_record,
)
from makebreak.store.files import (
    create_folders,
    file_digest,
    remove_temporary_files,
    remove_temporary_files_below,
    write_atomic,
    write_json,
)
from makebreak.store.keys import KEY_PATTERN, result_key
from makebreak.store.locks import lock
from makebreak.store.results import DryRun, NotCached, Store, dry_run, is_cached
from makebreak.store.states import StateLines, read_state, report_damage, write_state
from makebreak.store.unfinished import follow_umask, open_unfinished

__all__ = [
    "KEY_PATTERN",
    "OMITTED_FILE",
    "RECORD_FILE",
    "DamagedArtifact",
    "DryRun",
    "NotCached",
    "StateLines",
    "Store",
    "check",
    "check_copy",
    "check_not_omitted",
    "check_presence",
    "create_folders",
    "dry_run",
    "file_digest",
    "follow_umask",
    "is_cached",
    "lock",
    "omitted_files",
    "open_unfinished",
    "read_state",
    "read_verified",
    "record",
    "remove_temporary_files",
    "remove_temporary_files_below",
    "report_damage",
    "result_key",
    "verify_record",
    "write_atomic",
    "write_json",
    "write_state",
]
