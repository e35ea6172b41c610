/* A group: the packed buckets of one identity, and their present rule. */
#ifndef RATECTL_GROUP_H
#define RATECTL_GROUP_H

#include "counters.h"
#include "table.h"

#define SHARED 256      /* overflow buckets of a group, by the lowest bits of a key */

/* Data that all groups of an engine share; counted by reference. */
typedef struct {
    Py_ssize_t references;
    Secret secret;
    Budget budget;
    u32 serial;
    i64 overflowed, evicted;
    int sweeping;           /* eviction is possible: no swap is under way */
    int evicts;             /* eviction is on; off in some tests */
    struct Group *hand;     /* group whose buckets are examined next */
} Common;

/* An event of number `seq` at `now`: a change of parameters, or requests left the group.
   `native`: this core can convert the buckets. `left`: buckets that are not full then are saved for
   the requests that left, which Python does. */
typedef struct {
    u32 seq;
    i64 now;
    Rule *before, *after;
    int native, left;
} Change;

/* What an untracked key begins with: a full bucket, `Group.stored`, or what only Python can make. */
typedef enum { FULL, STORED, MADE } Start;

typedef struct Group {
    PyObject_HEAD
    Common *common;
    struct Group *next, *previous;  /* ring of all groups of the engine */
    Rule *rule;
    Counters *counters;
    PyObject *scope, *name, *per;   /* per: a tuple of interned names */
    PyObject *unit;                 /* what it counts, an exact str; NULL: requests */
    PyObject *owner;                /* weak reference to the FastGroup around this one */
    Py_ssize_t per_count;
    PyObject *only;                 /* the name, if there is only one; borrowed */
    u32 epoch;
    int shadow, retired;
    int skips;                      /* not consulted about requests that lack one of its attributes */
    Start start;                    /* what an untracked key begins with */
    Packed stored;
    Table table;
    Table *former;                  /* buckets that are still packed by an earlier rule */
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

/* The key of a request. May run Python code if the attributes are no plain dict. */
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
    if (!g->per_count) /* one key, and so one bucket */
        return g->table.count ? (Bucket *)g->table.chunks[0].buckets : NULL;
    return table_find(&g->table, key);
}

/* A bucket that is still packed by an earlier rule, and its table. */
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

/* Changes of parameters: as `migrate` in Python, where the core can do it -------------------------- */

/* True if a change has something to save of a bucket that has followed all changes before. */
static int
must_save(const Change *change, Packed *bucket)
{
    Packed full;
    const KindTable *kind = kind_of(change->before);
    if (!change->left)
        return 0;
    kind->full(change->before, &full, change->now);
    return !kind->same(change->before, bucket, &full, change->now);
}

/* Convert a bucket by the changes since it was last touched. -1: Python has to do it. */
static int
catch_up(Group *g, Bucket *bucket)
{
    if (bucket->epoch & BOXED)
        return -1;
    int behind = 0;
    while (behind < g->change_count &&
           g->changes[g->change_count - 1 - behind].seq > bucket->epoch)
        if (!g->changes[g->change_count - 1 - behind++].native)
            return -1;
    const Change *first = &g->changes[g->change_count - behind];
    const KindTable *kind = kind_of(g->rule);
    if (kind->holds) {
        for (int i = 0; i < behind; i++) {
            if (must_save(&first[i], (Packed *)bucket) ||
                kind->change(first[i].before, first[i].after, (Packed *)bucket, first[i].now) < 0)
                return -1;
            bucket->epoch = first[i].seq;
        }
        bucket->serial = next_serial(g->common);
        return 0;
    }
    Packed moved;
    char room[MOST_ROOM];
    memcpy(&moved, bucket, g->rule->size);
    if (kind->detach != NULL)
        kind->detach(&moved, room);
    for (int i = 0; i < behind; i++)
        if (must_save(&first[i], &moved) ||
            kind->change(first[i].before, first[i].after, &moved, first[i].now) < 0)
            return -1;
    moved.head.epoch = g->epoch;
    moved.head.serial = next_serial(g->common);
    if (kind->replace != NULL)
        return kind->replace(&g->common->budget, (Packed *)bucket, &moved);
    memcpy(bucket, &moved, g->rule->size);
    return 0;
}

/* Fill a bucket with what an untracked key begins with, unless Python has to make it. */
static inline void
group_start(const Group *g, Packed *into, i64 now)
{
    if (likely(g->start == FULL))
        kind_of(g->rule)->full(g->rule, into, now);
    else
        memcpy(into, &g->stored, g->rule->size);
}

/* Making room ----------------------------------------------------------------------------------- */

/* True if evicting a bucket is invisible. */
static int
evictable(Group *g, Bucket *bucket, i64 now)
{
    Packed initial;
    if (g->rule->kind == WIDE || bucket->epoch & BOXED || g->start == MADE)
        return 0;
    /* A bucket that holds no slot now held none after any change either. */
    const KindTable *kind = kind_of(g->rule);
    if (kind->holds && !g->former_count) {
        Bucket *shared = shared_bucket(g, bucket->key);
        return !held_used((Held *)bucket, now) &&
               (shared == NULL || (!(shared->epoch & BOXED) && !held_used((Held *)shared, now)));
    }
    if (bucket->epoch != g->epoch && catch_up(g, bucket) < 0)
        return 0;
    group_start(g, &initial, now);
    if (!kind->same(g->rule, (Packed *)bucket, &initial, now))
        return 0;
    Bucket *shared = shared_bucket(g, bucket->key);
    if (shared == NULL)
        return 1;
    if (shared->epoch != g->epoch && catch_up(g, shared) < 0)
        return 0;
    return kind->same(g->rule, (Packed *)shared, &initial, now);
}

/* The next bucket that the hand points at. NULL: there is none at this place; the hand moves on. */
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

/* Examine a few buckets, in turn, and evict the ones whose eviction is invisible. The buckets in
   `held` are about to be charged, and stay. */
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
        if (!kept && evictable(g, b, now)) {
            table_remove(&g->table, b);
            common->evicted++;
        }
    }
}

/* Track a key from now on. Returns a bucket to fill; NULL if there is no room. */
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

/* The shared bucket of a key without room, to be filled. NULL: out of memory. */
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
