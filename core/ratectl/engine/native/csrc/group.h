/* A group: the packed buckets of one identity, and what a check must know to use them. */
#ifndef RATECTL_GROUP_H
#define RATECTL_GROUP_H

#include "counters.h"
#include "table.h"

#define SHARED 256      /* overflow buckets of a group, by the lowest bits of a key */

/* What all groups of an engine have in common; counted by reference. */
typedef struct {
    Py_ssize_t references;
    Secret secret;
    Budget budget;
    u32 serial;
    i64 overflowed;
    int sweeping;           /* buckets may be judged: no swap is under way */
    int evicts;             /* buckets may be forgotten: not in tests whose clock steps back */
    struct Group *hand;     /* whose buckets are looked at next */
} Common;

/* New parameters from `now` on; `native` where buckets can follow here. */
typedef struct {
    i64 now;
    Rule *before, *after;
    int native;
} Change;

typedef struct Group {
    PyObject_HEAD
    Common *common;
    struct Group *next, *previous;  /* ring of all groups of the engine */
    Rule *rule;
    Counters *counters;
    PyObject *scope, *name, *per;   /* per: a tuple of interned names */
    PyObject *owner;                /* fast.py's weak reference to the group around this one */
    Py_ssize_t per_count;
    PyObject *only;                 /* the name, where there is one; not owned */
    u32 epoch;
    int shadow, retired;
    i64 seed_until;                 /* until then, untracked keys start from a seed: SLOW */
    Packed *genesis;                /* an untouched bucket; NULL for a full one */
    int odd_genesis;                /* it cannot be packed */
    Table table;
    Table *former;                  /* buckets still packed as they were under another rule */
    int former_count;
    char *shared;                   /* SHARED packed buckets, or NULL */
    Change *changes;
    int change_count;
    PyObject *boxed;                /* states that cannot be packed, by key, or by ~slot */
    u32 hand;
    i128 lowest;                    /* least level (tokens) or count that remained */
    int has_lowest;
} Group;

static PyTypeObject *group_type, *rule_type;

static inline u32
next_serial(Common *common)
{
    if (++common->serial == 0)
        common->serial = 1;
    return common->serial;
}

static void
common_release(Common *common)
{
    if (--common->references == 0)
        PyMem_Free(common);
}

/* Keys ------------------------------------------------------------------------------------------ */

/* The key of a request with these attributes; may run Python code where they are no plain dict. */
static u64
attributes_key(Group *g, PyObject *attributes, int *failed)
{
    u64 key = 0;
    int plain = PyDict_CheckExact(attributes);
    for (Py_ssize_t i = 0; i < g->per_count; i++) {
        PyObject *name = PyTuple_GetItem(g->per, i), *value;
        if (plain)
            value = Py_XNewRef(PyDict_GetItemWithError(attributes, name));
        else
            value = PyObject_CallMethod(attributes, "get", "O", name);
        if (value == NULL && PyErr_Occurred()) {
            *failed = -1;
            return 0;
        }
        key = key_step(key, read_value_hash(&g->common->secret, value, failed));
        Py_XDECREF(value);
        if (*failed)
            return 0;
    }
    return key_end(&g->common->secret, key);
}

/* Finding buckets ------------------------------------------------------------------------------- */

static inline Bucket *
group_find(Group *g, u64 key)
{
    if (!g->per_count) /* there is one key, and so one bucket */
        return g->table.count ? (Bucket *)g->table.chunks[0].buckets : NULL;
    return table_find(&g->table, key);
}

/* A bucket that is still packed as under a former rule, and the table that it lies in. */
static Bucket *
former_find(Group *g, u64 key, Table **table)
{
    for (int i = g->former_count - 1; i >= 0; i--) {
        Bucket *b = table_find(&g->former[i], key);
        if (b != NULL) {
            *table = &g->former[i];
            return b;
        }
    }
    return NULL;
}

static inline Bucket *
shared_bucket(Group *g, u64 key)
{
    if (likely(g->shared == NULL))
        return NULL;
    Bucket *b = (Bucket *)(g->shared + (key & (SHARED - 1)) * g->rule->size);
    return b->key ? b : NULL;
}

static void
full_bucket(const Rule *r, Packed *b, i64 now)
{
    switch (r->kind) {
    case TOKENS:
        b->tokens.at = b->tokens.high_at = now;
        set_level(&b->tokens, r->capacity);
        break;
    case WINDOW:
        memset(&b->window.ring, 0, sizeof b->window.ring);
        b->window.slot = floor_div(now, r->slot_ns);
        b->window.since = now;
        break;
    case QUOTA: /* its window begins with the first look at it */
        b->quota = (Quota){.start = INT64_MIN, .end = INT64_MIN, .since = now};
        break;
    default:
        b->held.own = NULL;
        b->held.newest = NO_SLOT;
    }
}

/* Changes of parameters: what migrate.py says, where it takes no Python -------------------------- */

/* Of a copy whose ring is unfolded. */
static void
rewindowed(const Rule *old, const Rule *new, Window *b, i64 now)
{
    window_advance(old, b, now);
    if (old->slot_ns == new->slot_ns)
        return;
    u64 moved[SLOTS] = {0};
    if (b->slot * old->slot_ns > now)
        now = b->slot * old->slot_ns;
    i64 head = floor_div(now, new->slot_ns);
    for (i64 slot = b->slot - SLOTS + 1; slot <= b->slot; slot++) {
        i64 latest = (slot + 1) * old->slot_ns - 1;
        i64 to = floor_div(latest < now ? latest : now, new->slot_ns);
        if (to > head - SLOTS)
            moved[to & (SLOTS - 1)] += count_in(b, slot);
    }
    b->slot = head;
    memcpy(b->ring.broad.counts, moved, RING_BYTES);
}

static int
changed(const Change *c, Packed *b)
{
    if (c->after->kind == TOKENS) { /* a token is cut alike in both */
        i128 level = level_at(c->before, &b->tokens, c->now);
        i64 at = c->now > b->tokens.at ? c->now : b->tokens.at;
        if (level > c->before->half)
            b->tokens.high_at = at;
        level = level < c->after->capacity ? level : c->after->capacity;
        if (too_deep(c->after, level))
            return -1;
        set_level(&b->tokens, level);
        b->tokens.at = at;
        return 0;
    }
    if (c->after->kind == HELD) { /* what is held would be shared with the bucket before */
        if (held_used(&b->held, c->now))
            return -1;
        Py_CLEAR(b->held.own);
        b->held.newest = NO_SLOT;
        return 0;
    }
    if (c->after->kind == WINDOW) {
        rewindowed(c->before, c->after, &b->window, c->now);
        return 0;
    }
    i64 wall; /* a quota over the same windows */
    return wall_at(c->before, c->now, &wall) < 0 ||
           quota_advance(c->before, &b->quota, c->now, wall) < 0 ? -1 : 0;
}

/* Let a bucket follow the changes since it was last touched; -1 where that is Python's work. */
static int
catch_up(Group *g, Bucket *bucket)
{
    if (bucket->epoch & BOXED)
        return -1;
    u32 behind = g->epoch - bucket->epoch;
    if (behind > (u32)g->change_count)
        return -1;
    const Change *first = &g->changes[g->change_count - behind];
    for (u32 i = 0; i < behind; i++)
        if (!first[i].native)
            return -1;
    Packed moved;
    u64 counts[SLOTS];
    memcpy(&moved, bucket, g->rule->size);
    if (g->rule->kind == WINDOW)
        ring_unfold(&moved.window, counts);
    if (g->rule->kind == HELD && behind > 1 && held_used(&moved.held, first[behind - 1].now))
        return -1;
    for (u32 i = 0; i < behind; i++)
        if (changed(&first[i], &moved) < 0)
            return -1;
    moved.head.epoch = g->epoch;
    moved.head.serial = next_serial(g->common);
    if (g->rule->kind == WINDOW)
        return ring_fold(&g->common->budget, (Window *)bucket, &moved.window) - 1;
    memcpy(bucket, &moved, g->rule->size);
    return 0;
}

/* Let go of the genesis bucket: untouched ones are full. */
static void
genesis_end(Group *g)
{
    if (g->genesis != NULL)
        bucket_end(g->rule->kind, &g->common->budget, &g->genesis->head);
    PyMem_Free(g->genesis);
    g->genesis = NULL;
}

/* Making room ----------------------------------------------------------------------------------- */

static int
same_bucket(const Rule *r, Packed *one, Packed *other, i64 now)
{
    switch (r->kind) {
    case TOKENS: return level_at(r, &one->tokens, now) == level_at(r, &other->tokens, now);
    case WINDOW: return window_same(r, &one->window, &other->window, now);
    case QUOTA: return quota_same(r, &one->quota, &other->quota, now);
    default: return !held_used(&one->held, now) && !held_used(&other->held, now);
    }
}

/* Whether forgetting a bucket could not be noticed. */
static int
evictable(Group *g, Bucket *bucket, i64 now)
{
    Packed initial;
    if (g->rule->kind == WIDE || g->odd_genesis || bucket->epoch & BOXED || now < g->seed_until)
        return 0;
    /* What holds no slot now held none after any change either. */
    if (g->rule->kind == HELD && !g->former_count)
        return !g->shared && !held_used(&((Packed *)bucket)->held, now);
    if (bucket->epoch != g->epoch && catch_up(g, bucket) < 0)
        return 0;
    if (g->genesis)
        memcpy(&initial, g->genesis, g->rule->size);
    else
        full_bucket(g->rule, &initial, now);
    if (!same_bucket(g->rule, (Packed *)bucket, &initial, now))
        return 0;
    Bucket *shared = shared_bucket(g, bucket->key);
    if (shared == NULL)
        return 1;
    if (shared->epoch != g->epoch && catch_up(g, shared) < 0)
        return 0;
    return same_bucket(g->rule, (Packed *)shared, &initial, now);
}

/* The next bucket that the hand points at; NULL where it points at none, and only moves on. */
static inline Bucket *
under_hand(Common *common)
{
    Group *g = common->hand;
    u32 at = g->hand, chunk = at / CHUNK;
    if (g->retired || chunk >= g->table.chunk_count) {
        g->hand = 0;
        common->hand = g->next;
        return NULL;
    }
    if (at % CHUNK >= g->table.chunks[chunk].fresh) {
        g->hand = (chunk + 1) * CHUNK;
        return NULL;
    }
    g->hand++;
    Bucket *b = bucket_of(&g->table, at);
    return b->key ? b : NULL;
}

/* Look at a few buckets, in turn, and forget those that nobody would miss. `held` are about to be
   charged. */
static void
sweep(Common *common, int looks, i64 now, Bucket *const *held, int held_count)
{
    int moves = 16 * looks;
    while (common->sweeping && common->evicts && common->hand != NULL && looks && moves--) {
        Group *g = common->hand;
        Bucket *b = under_hand(common);
        if (b == NULL)
            continue;
        looks--;
        int kept = 0;
        for (int i = 0; i < held_count && !kept; i++)
            kept = held[i] == b;
        if (!kept && evictable(g, b, now))
            table_remove(&g->table, b);
    }
}

/* Track a key from now on: a bucket to fill, or NULL where there is no room for it. */
static Bucket *
track(Group *g, u64 key, i64 now, Bucket *const *held, int held_count)
{
    sweep(g->common, 2, now, held, held_count);
    Bucket *b = table_add(&g->table, key, 0);
    if (unlikely(b == NULL)) {
        sweep(g->common, 16, now, held, held_count);
        b = table_add(&g->table, key, 0);
    }
    return b;
}

/* The bucket that a key without room shares with others, to be filled. NULL where there is no memory
   at all. */
static Bucket *
share(Group *g, u64 key)
{
    size_t bytes = (size_t)SHARED * g->rule->size;
    if (g->shared == NULL && (g->shared = PyMem_Calloc(1, bytes)) == NULL)
        return NULL;
    Bucket *b = (Bucket *)(g->shared + (key & (SHARED - 1)) * g->rule->size);
    if (b->key)
        bucket_end(g->rule->kind, &g->common->budget, b);
    b->key = (key & (SHARED - 1)) + 1;
    return b;
}

#endif
