/* Rules and packed buckets, and the exact arithmetic of token_bucket.py and quota.py on them;
   windows.h has that of windows. SLOW: the numbers do not fit, and Python has to decide. */
#ifndef RATECTL_RULE_H
#define RATECTL_RULE_H

#include "wallets.h"

#define NEAR_BYTES 16

typedef enum { WIDE = 0, TOKENS = 1, WINDOW = 2, QUOTA = 3, HELD = 4, POOL = 5, KEYED = 6 } Kind;

/* The parameters of a limit. Immutable, except that a quota remembers the present window. */
typedef struct {
    PyObject_HEAD
    Kind kind;
    u32 size;           /* bytes of a packed bucket */
    int blocked;
    i64 most;
    i64 per_ns, per_token;      /* ticks; see token_bucket.py */
    i128 capacity, half;
    i64 window_ns;              /* of a keyed bucket: the time of a token */
    i64 quantum;                /* these five: see sliding_window.py */
    u32 unit_bits, count_bits, grain_bits, cells;
    i64 even;                   /* length of each window of a quota; 0: the calendar decides */
    i64 starts, ends;           /* the last window from the calendar, by the wall clock. Of a keyed
                                   bucket: every part was empty at `starts` */
    PyObject *offset;           /* a WallOffset; of a pool, its Wallet or KeyWallets */
    i64 hold_ns;                /* of a pool: the shortest wait; and `per_ns` is the time of a token */
} Rule;

/* The head of every packed bucket. A boxed one is a Python object in its group's `boxed`. */
typedef struct {
    u64 key;            /* 0: the place is free */
    u32 epoch;          /* of its group; with the bit BOXED */
    u32 serial;
} Bucket;

#define BOXED 0x80000000u

typedef struct {
    Bucket head;
    i64 at, high_at;
    u64 low;            /* the level in ticks: 128 bits, in two halves because of alignment */
    i64 high;
} Tokens;

typedef struct {
    Bucket head;
    i64 at;             /* the newest cell: its instant, */
    u32 open;           /* and its count */
    u32 total;          /* count of all cells */
    /* How closed cells are packed: of the rule, so that a bucket is read without it. */
    u32 unit_bits : 6, count_bits : 4, grain_bits : 5;
    u32 coarse : 1;     /* cells of four bytes */
    u32 far : 1;        /* `block` is in use */
    u32 : 15;
    u8 cells;           /* most cells: of the rule as well */
    u8 len;             /* cells, with the newest */
    u8 first;           /* place of the oldest cell */
    u8 opaque;
    char near[NEAR_BYTES];
    char *block;        /* owned; or more near cells */
} Window;

typedef struct {
    Bucket head;
    i64 start, end, since, used;
} Quota;

struct Batch;
struct Older;

typedef struct {
    Bucket head;
    struct Batch *own;      /* batch of its new slots; NULL before the first slot */
    struct Older *older;    /* owned; NULL: no older batches hold slots */
    i64 newest;         /* end of the slot taken last; NO_SLOT for none */
} Held;

#define NO_SLOT INT64_MIN

typedef struct {
    Bucket head;
    i64 spent;
} Pool;

/* Tokens that may be spent until a deadline: the Wallet of pooled.py. */
typedef struct {
    PyObject_HEAD
    i64 deadline, granted, reported, free, missed, largest;
} Wallet;

static PyTypeObject *wallet_type;

typedef union {
    Bucket head;
    Tokens tokens;
    Window window;
    Quota quota;
    Held held;
    Pool pool;
} Packed;

/* Token buckets --------------------------------------------------------------------------------- */

static inline i128
level_of(const Tokens *b)
{
    return (i128)((u128)(u64)b->high << 64 | b->low);
}

static inline void
set_level(Tokens *b, i128 level)
{
    b->low = (u64)level;
    b->high = (i64)(level >> 64);
}

/* True if a level is too low to be decided here: filling the bucket takes longer than MOST_TIME. */
static inline int
too_deep(const Rule *r, i128 level)
{
    return level > r->capacity || r->capacity - level > (r->per_ns ? (i128)r->per_ns : 1) * MOST_TIME;
}

static inline i128
level_at(const Rule *r, const Tokens *b, i64 now)
{
    i128 level = level_of(b);
    if (now <= b->at)
        return level;
    level += (i128)(now - b->at) * r->per_ns;
    return level < r->capacity ? level : r->capacity;
}

static inline i64
tokens_wait(const Rule *r, const Tokens *b, i64 cost, i64 now)
{
    if (unlikely(cost > r->most || !r->per_ns))
        return NEVER;
    i128 missing = (i128)cost * r->per_token - level_of(b);
    if (missing <= 0)
        return 0;
    i64 ready = b->at + (i64)wide_ceil_div((u128)missing, (u64)r->per_ns);
    return ready > now ? ready - now : 0;
}

static inline void
tokens_charge(const Rule *r, Tokens *b, i64 cost, i64 now)
{
    i128 level = level_at(r, b, now);
    if (now > b->at)
        b->at = now;
    if (level > r->half)
        b->high_at = b->at;
    set_level(b, level - (i128)cost * r->per_token);
}

static inline i64
tokens_left(const Rule *r, i128 level)
{
    return level <= 0 ? 0 : (i64)wide_div((u128)level, (u64)r->per_token);
}

/* What remains, of a token bucket's ticks or of another kind's counts, in units of cost. */
static inline i64
whole_left(const Rule *r, i128 left)
{
    return r->kind == TOKENS ? tokens_left(r, left) : (i64)left;
}

static inline i64
tokens_reset(const Rule *r, i128 level, i64 ahead)
{
    i128 missing = r->capacity - level;
    if (missing == 0)
        return 0;
    return r->per_ns ? (i64)wide_ceil_div((u128)missing, (u64)r->per_ns) + ahead : NEVER;
}

/* Pools ----------------------------------------------------------------------------------------- */

static inline const Wallet *
wallet_of(const Rule *r)
{
    return (const Wallet *)r->offset;
}

/* Tokens in the wallet, as far as the limit admits so many at once. */
static inline i64
pool_left(const Rule *r, const Pool *b, i64 now)
{
    const Wallet *w = wallet_of(r);
    i64 left = now < w->deadline && w->granted > b->spent ? w->granted - b->spent : 0;
    return left < r->most ? left : r->most;
}

static inline int
pool_allows(const Rule *r, const Pool *b, i64 cost, i64 now)
{
    const Wallet *w = wallet_of(r);
    return now < w->deadline && w->granted - b->spent >= cost && cost <= r->most && r->per_ns;
}

static inline i64
pool_wait(const Rule *r, const Pool *b, i64 cost, i64 now)
{
    Wallet *w = (Wallet *)r->offset;
    if (likely(pool_allows(r, b, cost, now)))
        return 0;
    if (cost > r->most || !r->per_ns)
        return NEVER;
    w->missed += cost;
    if (w->largest < cost)
        w->largest = cost;
    return cost * r->per_ns > r->hold_ns ? cost * r->per_ns : r->hold_ns;
}

/* An estimate: what is neither in the wallet nor free elsewhere. */
static inline i64
pool_used(const Rule *r, const Pool *b, i64 now)
{
    i64 used = r->most - pool_left(r, b, now) - wallet_of(r)->free;
    return used < 0 ? 0 : used < r->most ? used : r->most;
}

/* Buckets of one key across the cluster: a token bucket, and a wallet beside it -------------------- */

static inline KeyWallets *
wallets_of(const Rule *r)
{
    return (KeyWallets *)r->offset;
}

static inline i128
keyed_level(const Rule *r, const Tokens *b, i64 now)
{
    return now < wallets_of(r)->until ? level_at(r, b, now) : 0;
}

/* Tokens that the bucket owes: requests were settled with more. */
static inline i64
keyed_owed(const Rule *r, const Tokens *b, i64 now)
{
    i128 level = level_at(r, b, now);
    if (likely(level >= 0))
        return 0;
    u128 owed = wide_ceil_div((u128)-level, (u64)r->per_token);
    return owed < MOST_COUNT ? (i64)owed : MOST_COUNT;
}

static inline i64
keyed_wait(const Rule *r, i64 cost)
{
    return cost * r->window_ns > r->hold_ns ? cost * r->window_ns : r->hold_ns;
}

static inline i64
keyed_used(const Rule *r, const Tokens *b, i64 now)
{
    i128 missing = r->capacity - level_at(r, b, now);
    i64 used = missing <= 0 ? 0 : (i64)wide_ceil_div((u128)missing, (u64)r->per_token);
    return used < r->most ? used : r->most;
}

/* Quotas ---------------------------------------------------------------------------------------- */

static PyObject *text_ns, *text_floor; /* "ns", "floor" */

/* An attribute of a wall clock's offset. -1: it is too large for decisions here. */
static inline int
offset_get(const Rule *r, PyObject *name, i64 *value)
{
    PyObject *number = PyObject_GetAttr(r->offset, name);
    int overflow = 0;
    *value = number ? PyLong_AsLongLongAndOverflow(number, &overflow) : -1;
    Py_XDECREF(number);
    if (*value == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return -1;
    }
    return overflow || *value > MOST_TIME || *value < -MOST_TIME ? -1 : 0;
}

/* The wall clock at `now`. -1: the offset is too large to be decided here. */
static inline int
wall_at(const Rule *r, i64 now, i64 *wall)
{
    if (offset_get(r, text_ns, wall) < 0)
        return -1;
    *wall += now;
    return 0;
}

/* The time by which windows are chosen: the wall clock, which stands still if it has stepped back. */
static inline int
latest_at(const Rule *r, i64 wall, i64 *latest)
{
    if (offset_get(r, text_floor, latest) < 0)
        return -1;
    if (*latest < wall)
        *latest = wall;
    return 0;
}

/* Move a bucket to the window that holds `now`. -1: only the calendar knows that window. */
static inline int
quota_advance(const Rule *r, Quota *b, i64 now, i64 wall)
{
    if (latest_at(r, wall, &wall) < 0)
        return -1;
    if (likely(wall < b->end))
        return 0;
    if (r->even) {
        b->start = floor_div(wall, r->even) * r->even;
        b->end = b->start + r->even;
    } else if (wall >= r->starts && wall < r->ends) {
        b->start = r->starts;
        b->end = r->ends;
    } else {
        return -1;
    }
    b->since = now;
    b->used = 0;
    return 0;
}

static inline i64
quota_wait(const Rule *r, Quota *b, i64 cost, i64 now)
{
    i64 wall;
    if (wall_at(r, now, &wall) < 0 || quota_advance(r, b, now, wall) < 0)
        return SLOW;
    if (unlikely(cost > r->most || r->blocked))
        return NEVER;
    return b->used + cost <= r->most ? 0 : b->end - wall;
}

static inline int
quota_same(const Rule *r, const Quota *one, const Quota *other, i64 now)
{
    i64 wall;
    if (wall_at(r, now, &wall) < 0 || latest_at(r, wall, &wall) < 0)
        return 0;
    i64 used = wall < one->end ? one->used : 0;
    return used == (wall < other->end ? other->used : 0) && (!used || one->end == other->end);
}

#endif
