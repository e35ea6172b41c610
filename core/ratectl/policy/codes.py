"""Stable codes of findings: a title for each here, a page for each in ``ratectl rule``.

``RC1xx``: the file cannot be read as a policy. ``RC2xx``: it can, but the tree is inconsistent.
``RC3xx``: the tree is consistent, but probably not as intended (warnings). ``RC4xx``: a test of the
policies makes no sense. ``RC5xx``: the policies conflict with the live generation.
``RC6xx``: something cannot be moved from another rate limiter, or to it.
"""

from __future__ import annotations

from typing import Final

__all__ = ["CODES"]

# RC10x, RC11x: the text as YAML (yaml/)
SYNTAX: Final = "RC101"
ENCODING: Final = "RC102"
TOO_LARGE: Final = "RC103"
TOO_DEEP: Final = "RC104"
CHARACTER: Final = "RC105"
DUPLICATE_KEY: Final = "RC106"
TAG: Final = "RC107"
MERGE_KEY: Final = "RC108"
ALIAS: Final = "RC109"
ALIAS_SIZE: Final = "RC110"
NULL: Final = "RC111"
WORD: Final = "RC112"
NUMBER_FORM: Final = "RC113"
NOT_FINITE: Final = "RC114"
NUMBER_SIZE: Final = "RC115"
KEY: Final = "RC116"
DIRECTIVE: Final = "RC117"
EMPTY_FILE: Final = "RC118"
TOO_MANY: Final = "RC119"
# RC12x: files (loading/files.py, loading/loader.py, loading/templates.py, yaml/reader.py)
NOT_FOUND: Final = "RC120"
UNREADABLE: Final = "RC121"
NO_FILES: Final = "RC122"
NO_POLICIES: Final = "RC123"
LINK_OUT: Final = "RC124"
TEMPLATE: Final = "RC125"
SEPARATOR: Final = "RC126"
# RC13x, RC14x: documents and their fields (loading/loader.py, loading/model_errors.py)
NOT_A_MAPPING: Final = "RC130"
API_VERSION: Final = "RC131"
KIND: Final = "RC132"
UNKNOWN_FIELD: Final = "RC134"
MISSING_FIELD: Final = "RC135"
TYPE: Final = "RC136"
CHOICE: Final = "RC137"
NAME: Final = "RC138"
RANGE: Final = "RC139"
RATE: Final = "RC140"
SCOPE: Final = "RC141"
REPEATED: Final = "RC142"
RESETS: Final = "RC143"
NETWORK: Final = "RC144"
MATCHER: Final = "RC145"
INSTANT: Final = "RC146"
DURATION: Final = "RC147"

# RC20x: the tree as a whole (validation/tree.py, resolution/, loading/loader.py)
CAP_EXCEEDED: Final = "RC201"
CAP_EVADED: Final = "RC202"
INCOMPLETE: Final = "RC203"
MISFIT: Final = "RC204"
DUPLICATE_SCOPE: Final = "RC205"
EXCEPTION_TIMES: Final = "RC206"
EXCEPTION_TARGET: Final = "RC207"
EXCEPTION_CONFLICT: Final = "RC208"
EXCEPTION_BUCKET: Final = "RC209"
# RC30x: lint (validation/tree.py, validation/lint.py)
UNSET_NOTHING: Final = "RC301"
CONSISTENCY_UNUSED: Final = "RC302"
CLUSTER_BURST: Final = "RC303"
PER_IP: Final = "RC304"
CAP_UNUSED: Final = "RC305"
CAP_DECIDES: Final = "RC306"
OVERRIDE_BEATEN: Final = "RC307"
ACROSS_SHORT: Final = "RC308"
# RC31x: lint of names and of comments (validation/names.py, validation/ignoring.py)
LIMIT_NAME: Final = "RC310"
ATTRIBUTE_NAME: Final = "RC311"
SCOPE_NAME: Final = "RC312"
IGNORE: Final = "RC313"
# RC32x: lint of overrides and exceptions
SHADOWED: Final = "RC320"
EXCEPTION_OVER: Final = "RC321"
EXCEPTION_IGNORED: Final = "RC322"
# RC40x: tests of the policies (validation/tests.py)
TEST_NAME: Final = "RC401"
TEST_TIME: Final = "RC402"
TEST_EMPTY: Final = "RC403"
TEST_MISFIT: Final = "RC404"
TEST_SCOPE: Final = "RC405"
TEST_LIMIT: Final = "RC406"
# RC50x: sets (ratectl.publishing.ownership)
OWNED: Final = "RC501"
# RC60x: moving in and out (ratectl.moving)
UNSAYABLE: Final = "RC601"

CODES: Final[dict[str, str]] = {
    SYNTAX: "the text is not well-formed YAML",
    ENCODING: "the file is not UTF-8 text",
    TOO_LARGE: "the file or document is too large",
    TOO_DEEP: "the nesting is too deep",
    CHARACTER: "a character is not allowed",
    DUPLICATE_KEY: "a key is written twice",
    TAG: "tags are not allowed",
    MERGE_KEY: "merge keys are not allowed",
    ALIAS: "an alias has no anchor, or is inside its anchor",
    ALIAS_SIZE: "aliases repeat too much",
    NULL: "a value is missing or null",
    WORD: "a word could be text or a boolean",
    NUMBER_FORM: "a number is written in a form that YAML readers disagree on",
    NOT_FINITE: "a number is not finite",
    NUMBER_SIZE: "a number has too many digits",
    KEY: "a key is not text",
    DIRECTIVE: "directives are not allowed",
    EMPTY_FILE: "the file holds no document",
    TOO_MANY: "the file has too many problems to show",
    NOT_FOUND: "a path does not exist",
    UNREADABLE: "a file or directory cannot be read",
    NO_FILES: "a directory holds no policy files",
    NO_POLICIES: "no file holds a policy",
    LINK_OUT: "a link leads out of the tree",
    TEMPLATE: "the file is a template that has not been rendered",
    SEPARATOR: "the --- between two documents is missing",
    NOT_A_MAPPING: "a document is not a mapping",
    API_VERSION: "apiVersion is missing or not readable by this version",
    KIND: "the kind of document is not known",
    UNKNOWN_FIELD: "a field is not known",
    MISSING_FIELD: "a required field is missing",
    TYPE: "a value has the wrong type",
    CHOICE: "a value is not one of the allowed ones",
    NAME: "a name contains a character that is not allowed",
    RANGE: "a value is out of range, or too long",
    RATE: "a rate is not readable",
    SCOPE: "a scope is not well-formed",
    REPEATED: "a list names something twice",
    RESETS: "a time to reset at is not readable",
    NETWORK: "a network is not readable",
    MATCHER: "a matcher is not readable",
    INSTANT: "an instant is not readable",
    DURATION: "a duration is not readable",
    CAP_EXCEEDED: "a value exceeds a cap",
    CAP_EVADED: "a capped limit is unset, turned off or changed in kind",
    INCOMPLETE: "a limit is incomplete",
    MISFIT: "a field does not fit the limit's algorithm",
    DUPLICATE_SCOPE: "a scope is declared twice",
    EXCEPTION_TIMES: "an exception ends before it begins",
    EXCEPTION_TARGET: "an exception is for a scope or budget that is not declared",
    EXCEPTION_CONFLICT: "two exceptions set one field at the same time",
    EXCEPTION_BUCKET: "an exception would split or replace buckets",
    UNSET_NOTHING: "unset names a limit that is not inherited",
    CONSISTENCY_UNUSED: "a limit that agents do not share has a consistency",
    CLUSTER_BURST: "the burst of a limit across the cluster is too small",
    PER_IP: "a limit counts per ip without knowing its proxies",
    CAP_UNUSED: "a cap names a limit that no scope defines",
    CAP_DECIDES: "every scope gets the value of the cap, and none another value",
    OVERRIDE_BEATEN: "a value for all requests beats an override inherited from above",
    ACROSS_SHORT: "a limit across the cluster has a short window",
    LIMIT_NAME: "a new limit has nearly the name of another one",
    ATTRIBUTE_NAME: "an attribute has nearly the name of another one",
    SCOPE_NAME: "two scopes differ only by case or by a last character",
    IGNORE: "a comment ignores nothing",
    SHADOWED: "an override has no effect because of a later one",
    EXCEPTION_OVER: "an exception is over",
    EXCEPTION_IGNORED: "an exception does not fit the limit of a deeper scope or an override",
    TEST_NAME: "two tests have one name",
    TEST_TIME: "a step of a test goes back in time",
    TEST_EMPTY: "a test or a step expects nothing",
    TEST_MISFIT: "an expectation can never hold",
    TEST_SCOPE: "a test asks for a scope that no policy covers",
    TEST_LIMIT: "a test names a limit that does not exist there",
    OWNED: "a document belongs to another set",
    UNSAYABLE: "the other format cannot say this",
}
