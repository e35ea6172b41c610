/* The table of kinds: how buckets of each algorithm begin, end, change and reach Python.

   Deciding itself (wait, charge, remaining, reset) is in the switches of request.h: there, calls
   through a table would cost a measurable part of a decision. So a new kind needs its struct in
   rule.h, its functions and an entry here, a case in each of these switches, and a packing in
   packing.py. */
#ifndef RATECTL_KINDS_H
#define RATECTL_KINDS_H

#include "slots.h"

typedef struct {
    u32 size;               /* of a packed bucket, in bytes */
    int field_count;        /* of the tuple that Python packs and unpacks */
    int holds;              /* requests hold slots; a copy of a bucket would share them */
    void (*full)(const Rule *r, Packed *b, i64 now);
    /* Whether two buckets give equal answers from `now` on. */
    int (*same)(const Rule *r, Packed *one, Packed *other, i64 now);
    /* `Algorithm.continued`, for a detached copy; in place, if `holds`. -1: Python has to do it. */
    int (*change)(const Rule *before, const Rule *after, Packed *copy, i64 now);
    /* The fields as a tuple. The bucket is a copy: making objects may run the collector, and
       finalizers may have the bucket itself evicted. */
    PyObject *(*fields)(const Packed *copy);
    /* Fill a bucket without an owner; 0 if the fields do not fit. */
    int (*pack)(const Rule *r, Packed *b, PyObject *fields, Budget *budget);
    /* Free what a bucket owns. NULL here and below: it owns nothing. */
    void (*end)(Budget *budget, Packed *b);
    /* Make a copy own nothing: what it would own is in `room` until it replaces a bucket. */
    void (*detach)(Packed *copy, char *room);
    /* Replace a bucket by a detached copy. -1: no memory, and nothing was changed. */
    int (*replace)(Budget *budget, Packed *bucket, const Packed *copy);
} KindTable;

static i64
field(PyObject *fields, Py_ssize_t i, int *odd)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(PyTuple_GetItem(fields, i), &overflow);
    if (overflow || value > MOST_TIME || value < -MOST_TIME)
        *odd = 1;
    return value;
}

/* Token buckets --------------------------------------------------------------------------------- */

static void
tokens_full(const Rule *r, Packed *b, i64 now)
{
    b->tokens.at = b->tokens.high_at = now;
    set_level(&b->tokens, r->capacity);
}

static int
tokens_same(const Rule *r, Packed *one, Packed *other, i64 now)
{
    return level_at(r, &one->tokens, now) == level_at(r, &other->tokens, now);
}

/* Both rules divide a token into the same number of ticks, and the burst does not shrink. */
static int
tokens_change(const Rule *before, const Rule *after, Packed *copy, i64 now)
{
    Tokens *b = &copy->tokens;
    i128 level = level_at(before, b, now);
    i64 at = now > b->at ? now : b->at;
    int high = level > before->half;
    if (high || level > after->half)
        b->high_at = at;
    if (too_deep(after, level))
        return -1;
    set_level(b, level);
    b->at = at;
    return 0;
}

static PyObject *
tokens_fields(const Packed *b)
{
    return Py_BuildValue("(LKLL)", b->tokens.high, b->tokens.low, b->tokens.at, b->tokens.high_at);
}

static int
level_pack(const Rule *r, Packed *b, PyObject *fields, Budget *budget)
{
    int odd = 0;
    (void)r;
    (void)budget;
    b->tokens.high = field(fields, 0, &odd);
    b->tokens.low = PyLong_AsUnsignedLongLong(PyTuple_GetItem(fields, 1));
    b->tokens.at = field(fields, 2, &odd);
    b->tokens.high_at = field(fields, 3, &odd);
    return !odd;
}

static int
tokens_pack(const Rule *r, Packed *b, PyObject *fields, Budget *budget)
{
    return level_pack(r, b, fields, budget) && !too_deep(r, level_of(&b->tokens));
}

/* Sliding windows ------------------------------------------------------------------------------- */

static void
window_full(const Rule *r, Packed *b, i64 now)
{
    (void)now;
    window_clear(r, &b->window);
}

static int
window_packed_same(const Rule *r, Packed *one, Packed *other, i64 now)
{
    return window_same(r, &one->window, &other->window, now);
}

static int
window_change(const Rule *before, const Rule *after, Packed *copy, i64 now)
{
    return window_continue(before, after, &copy->window, now) - 1;
}

static PyObject *
window_fields(const Packed *b)
{
    Cell cells[MOST_CELLS];
    int n = cells_read(&b->window, cells);
    PyObject *tuple = PyTuple_New(n);
    for (int i = 0; tuple != NULL && i < n; i++) {
        PyObject *cell = Py_BuildValue("(LK)", cells[i].at, cells[i].count);
        if (cell == NULL || PyTuple_SetItem(tuple, i, cell) < 0)
            Py_CLEAR(tuple);
    }
    return tuple == NULL ? NULL : Py_BuildValue("(Ni)", tuple, (int)b->window.opaque);
}

static int
window_pack(const Rule *r, Packed *b, PyObject *fields, Budget *budget)
{
    int odd = 0;
    Cell cells[MOST_CELLS];
    PyObject *tuple = PyTuple_GetItem(fields, 0);
    Py_ssize_t n = PyTuple_Size(tuple);
    i64 opaque = field(fields, 1, &odd);
    if (n < 0 || n > (Py_ssize_t)r->cells)
        return 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *cell = PyTuple_GetItem(tuple, i);
        cells[i].at = field(cell, 0, &odd);
        cells[i].count = (u64)field(cell, 1, &odd);
    }
    return !odd && window_build(r, &b->window, cells, (int)n, (int)opaque, budget);
}

static void
window_end(Budget *budget, Packed *b)
{
    window_free(budget, &b->window);
}

static void
window_detach(Packed *copy, char *room)
{
    window_borrow(&copy->window, room);
}

static int
window_replace(Budget *budget, Packed *bucket, const Packed *copy)
{
    Window kept = copy->window;
    char *own = NULL;
    if (window_fits_near(&kept))
        window_come_near(&kept);
    else if ((own = block_new(budget, &kept)) == NULL)
        return -1;
    window_free(budget, &bucket->window);
    bucket->window = kept;
    if (own != NULL)
        window_own_copy(&bucket->window, own);
    return 0;
}

/* Quotas ---------------------------------------------------------------------------------------- */

/* The window begins with the first request. */
static void
quota_full(const Rule *r, Packed *b, i64 now)
{
    (void)r;
    b->quota = (Quota){.start = INT64_MIN, .end = INT64_MIN, .since = now};
}

static int
quota_packed_same(const Rule *r, Packed *one, Packed *other, i64 now)
{
    return quota_same(r, &one->quota, &other->quota, now);
}

/* Both rules have the same windows. */
static int
quota_change(const Rule *before, const Rule *after, Packed *copy, i64 now)
{
    i64 wall;
    (void)after;
    if (wall_at(before, now, &wall) < 0)
        return -1;
    return quota_advance(before, &copy->quota, now, wall);
}

static PyObject *
quota_fields(const Packed *b)
{
    return Py_BuildValue("(LLLL)", b->quota.start, b->quota.end, b->quota.since, b->quota.used);
}

static int
quota_pack(const Rule *r, Packed *b, PyObject *fields, Budget *budget)
{
    int odd = 0;
    (void)r;
    (void)budget;
    b->quota.start = field(fields, 0, &odd);
    b->quota.end = field(fields, 1, &odd);
    b->quota.since = field(fields, 2, &odd);
    b->quota.used = field(fields, 3, &odd);
    return !odd;
}

/* Slots ----------------------------------------------------------------------------------------- */

static void
held_full(const Rule *r, Packed *b, i64 now)
{
    (void)r;
    (void)now;
    b->held.own = NULL;
    b->held.older = NULL;
    b->held.newest = NO_SLOT;
}

static int
held_same(const Rule *r, Packed *one, Packed *other, i64 now)
{
    (void)r;
    return !held_used(&one->held, now) && !held_used(&other->held, now);
}

static int
held_change(const Rule *before, const Rule *after, Packed *b, i64 now)
{
    (void)before;
    return held_cut(&b->held, now + after->hold_ns);
}

/* (own batch or None, end of the newest slot or None, ((older batch, end), ...)) */
static PyObject *
held_fields(const Packed *b)
{
    Older *older; /* a copy: making objects may run code that changes the bucket's */
    PyObject *own = Py_NewRef(b->held.own ? (PyObject *)b->held.own : Py_None);
    i64 last = b->held.newest;
    Held shared = {.older = b->held.older};
    if (older_of(&shared, FOREVER, &older) < 0) {
        Py_DECREF(own);
        return PyErr_NoMemory();
    }
    Py_ssize_t count = older ? older->count : 0;
    PyObject *newest = last == NO_SLOT ? Py_NewRef(Py_None) : PyLong_FromLongLong(last);
    PyObject *all = PyTuple_New(count);
    for (Py_ssize_t i = 0; all != NULL && i < count; i++) {
        i64 end = older->each[i].end;
        PyObject *until = end == FOREVER ? Py_NewRef(forever) : PyLong_FromLongLong(end);
        PyObject *one = Py_BuildValue("(ON)", older->each[i].batch, until);
        if (one == NULL || PyTuple_SetItem(all, i, one) < 0)
            Py_CLEAR(all);
    }
    older_free(older);
    return Py_BuildValue("(NNN)", own, newest, all);
}

static int
is_batch(PyObject *object)
{
    return TYPE(object) == batch_type;
}

/* The older batches in a tuple. 0 if they do not fit. */
static int
older_packed(PyObject *all, Older **into)
{
    Py_ssize_t count = PyTuple_Size(all);
    int odd = 0;
    *into = NULL;
    if (count <= 0)
        return count == 0;
    Older *older = *into = older_new((u32)count);
    for (Py_ssize_t i = 0; older != NULL && i < count; i++) {
        PyObject *one = PyTuple_GetItem(all, i), *batch = PyTuple_GetItem(one, 0);
        int endless = PyObject_RichCompareBool(PyTuple_GetItem(one, 1), forever, Py_EQ);
        i64 end = endless ? FOREVER : field(one, 1, &odd);
        if (odd || !is_batch(batch)) {
            older_free(older);
            return 0;
        }
        older_add(older, (Batch *)batch, end);
    }
    return older != NULL;
}

static int
held_pack(const Rule *r, Packed *b, PyObject *fields, Budget *budget)
{
    int odd = 0;
    PyObject *own = PyTuple_GetItem(fields, 0), *newest = PyTuple_GetItem(fields, 1);
    (void)r;
    (void)budget;
    b->held.newest = newest == Py_None ? NO_SLOT : field(fields, 1, &odd);
    if (odd || (own != Py_None && !is_batch(own)) ||
        !older_packed(PyTuple_GetItem(fields, 2), &b->held.older))
        return 0;
    b->held.own = own == Py_None ? NULL : (Batch *)Py_NewRef(own);
    return 1;
}

static void
held_end(Budget *budget, Packed *b)
{
    (void)budget;
    held_become(&b->held, NULL);
}

/* Pools ----------------------------------------------------------------------------------------- */

/* A bucket that begins late has nothing: what was granted before counts as spent. */
static void
pool_full(const Rule *r, Packed *b, i64 now)
{
    (void)now;
    b->pool.spent = wallet_of(r)->granted;
}

/* Totals are kept: no bucket stands for another. */
static int
pool_same(const Rule *r, Packed *one, Packed *other, i64 now)
{
    (void)r;
    (void)one;
    (void)other;
    (void)now;
    return 0;
}

/* Both rules have the same wallet. */
static int
pool_change(const Rule *before, const Rule *after, Packed *copy, i64 now)
{
    (void)before;
    (void)after;
    (void)copy;
    (void)now;
    return 0;
}

static PyObject *
pool_fields(const Packed *b)
{
    return Py_BuildValue("(L)", b->pool.spent);
}

static int
pool_pack(const Rule *r, Packed *b, PyObject *fields, Budget *budget)
{
    int odd = 0;
    (void)r;
    (void)budget;
    b->pool.spent = field(fields, 0, &odd);
    return !odd;
}

/* Buckets of one key across the cluster ----------------------------------------------------------- */

static void
keyed_full(const Rule *r, Packed *b, i64 now)
{
    tokens_full(r, b, now);
    i128 accrued = now > r->starts ? ((i128)now - r->starts) * r->per_ns : 0;
    if (r->starts != INT64_MIN && accrued < r->capacity)
        set_level(&b->tokens, accrued);
}

/* Growth gives no tokens, and what a smaller part has no room for is gone. */
static int
keyed_change(const Rule *before, const Rule *after, Packed *copy, i64 now)
{
    Tokens *b = &copy->tokens;
    if (before->per_token != after->per_token)
        return -1;
    i128 level = level_at(before, b, now);
    i128 kept = level < after->capacity ? level : after->capacity;
    if (now > b->at)
        b->at = now;
    if (level > before->half || kept > after->half)
        b->high_at = b->at;
    set_level(b, kept);
    return 0;
}

/* The table ------------------------------------------------------------------------------------- */

static const KindTable kinds[] = {
    [WIDE] = {.size = sizeof(Held)},    /* all of its buckets are boxed */
    [TOKENS] = {
        .size = sizeof(Tokens), .field_count = 4, .full = tokens_full, .same = tokens_same,
        .change = tokens_change, .fields = tokens_fields, .pack = tokens_pack,
    },
    [WINDOW] = {
        .size = sizeof(Window), .field_count = 2, .full = window_full,
        .same = window_packed_same, .change = window_change, .fields = window_fields,
        .pack = window_pack, .end = window_end, .detach = window_detach, .replace = window_replace,
    },
    [QUOTA] = {
        .size = sizeof(Quota), .field_count = 4, .full = quota_full, .same = quota_packed_same,
        .change = quota_change, .fields = quota_fields, .pack = quota_pack,
    },
    [HELD] = {
        .size = sizeof(Held), .field_count = 3, .holds = 1, .full = held_full, .same = held_same,
        .change = held_change, .fields = held_fields, .pack = held_pack, .end = held_end,
    },
    [POOL] = {
        .size = sizeof(Pool), .field_count = 1, .full = pool_full, .same = pool_same,
        .change = pool_change, .fields = pool_fields, .pack = pool_pack,
    },
    [KEYED] = {
        .size = sizeof(Tokens), .field_count = 4, .full = keyed_full, .same = tokens_same,
        .change = keyed_change, .fields = tokens_fields, .pack = level_pack,
    },
};

static inline const KindTable *
kind_of(const Rule *r)
{
    return &kinds[r->kind];
}

#endif
