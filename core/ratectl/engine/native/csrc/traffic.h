/* Busiest keys of a limit: `Traffic` of buckets/traffic.py for this core.

   Space-Saving (Metwally et al. 2005): a held key counts every request; one that is not held takes the
   place and the count of the least busy one. With many such requests, only a sample of them does
   (sample and hold, Estan and Varghese 2002), so that few take the time. */
#ifndef RATECTL_TRAFFIC_H
#define RATECTL_TRAFFIC_H

#include "base.h"

#define MOST_HELD 256
#define LEAST_HELD 32       /* held keys of a limit, also when the memory for all limits is used up */
#define MOST_SAMPLED 64     /* of so many requests of keys that are not held, one is a sample */
#define SAMPLED_LATER 4096  /* misses until one in two is a sample, then one in three, … */
#define MOST_TRAFFIC ((size_t)32 << 20) /* bytes for all limits of a process */

typedef struct {
    u64 key;                /* 0: no key */
    i64 count, error;       /* error: part of the count that may be other keys' */
    PyObject *shown;
} HeldKey;

typedef struct {
    u32 count, mask;        /* held keys; places - 1 */
    u32 until;              /* misses until the next sample */
    u64 misses;             /* since all places were taken; halved with the counts */
    u64 skipped;            /* requests in no count: no samples, or keys that cannot be held; halved */
    int full;
    HeldKey places[];
} Traffic;

static size_t traffic_bytes;
static u64 chance = 0x9E3779B97F4A7C15u;

static inline size_t
traffic_size(u32 places)
{
    return sizeof(Traffic) + places * sizeof(HeldKey);
}

/* One in so many misses is a sample. */
static inline u32
sampled(const Traffic *t)
{
    u64 of = 1 + t->misses / SAMPLED_LATER;
    return of < MOST_SAMPLED ? (u32)of : MOST_SAMPLED;
}

/* Misses until the next sample: random, as traffic may repeat. */
static u32
next_sample(const Traffic *t)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return 1 + (u32)(chance >> 40) % (2 * sampled(t) - 1);
}

static inline HeldKey *
held_key(Traffic *t, u64 key)
{
    u32 at = (u32)key & t->mask;
    while (t->places[at].key && t->places[at].key != key)
        at = (at + 1) & t->mask;
    return &t->places[at];
}

/* Count a request. 1: its key must be held from now on (see `traffic_hold`). */
static inline int
traffic_missed(Traffic *t, u64 key)
{
    if (unlikely(t == NULL))
        return 1;
    HeldKey *k = held_key(t, key);
    if (likely(k->key != 0)) {
        k->count++;
        return 0;
    }
    if (!t->full)
        return 1;
    t->misses++;
    if (unlikely(--t->until == 0)) {
        t->until = next_sample(t); /* here: the key may be one that cannot be held */
        return 1;
    }
    t->skipped++;
    return 0;
}

static Traffic *
traffic_grown(Traffic *t)
{
    u32 places = t ? 2 * (t->mask + 1) : 16;
    Traffic *more = PyMem_Calloc(1, traffic_size(places));
    if (more == NULL)
        return NULL;
    more->mask = places - 1;
    more->until = 1;
    traffic_bytes += traffic_size(places);
    for (u32 i = 0; t != NULL && i <= t->mask; i++)
        if (t->places[i].key) {
            *held_key(more, t->places[i].key) = t->places[i];
            more->count++;
        }
    if (t != NULL)
        traffic_bytes -= traffic_size(t->mask + 1);
    PyMem_Free(t);
    return more;
}

/* Take the least busy key out. Returns its count. */
static i64
traffic_drop_least(Traffic *t)
{
    u32 least = 0;
    for (u32 i = 0; i <= t->mask; i++)
        if (t->places[i].key && (!t->places[least].key || t->places[i].count < t->places[least].count))
            least = i;
    HeldKey dropped = t->places[least];
    u32 gap = least;
    for (u32 next = (gap + 1) & t->mask; t->places[next].key; next = (next + 1) & t->mask) {
        u32 home = (u32)t->places[next].key & t->mask;
        if (((next - home) & t->mask) >= ((next - gap) & t->mask)) {
            t->places[gap] = t->places[next];
            gap = next;
        }
    }
    t->places[gap] = (HeldKey){0};
    t->count--;
    Py_XDECREF(dropped.shown); /* a text, or a tuple of texts: no code runs */
    return dropped.count;
}

/* Hold a key that was missed, and count its request. Takes ownership of `shown`. */
static void
traffic_hold(Traffic **held, u64 key, PyObject *shown)
{
    Traffic *t = *held;
    if (t == NULL || (!t->full && 2 * (t->count + 1) > t->mask + 1)) {
        Traffic *more = traffic_grown(t);
        if (more == NULL) {
            Py_DECREF(shown);
            return;
        }
        t = *held = more;
    }
    HeldKey *k = held_key(t, key);
    i64 least = 0;
    if (k->key) { /* held meanwhile, by code that making `shown` has run */
        k->count++;
        Py_DECREF(shown);
        return;
    }
    if (t->full) {
        least = traffic_drop_least(t);
        k = held_key(t, key);
    }
    *k = (HeldKey){key, least + 1, least, shown};
    t->count++;
    t->full = t->count >= MOST_HELD || (t->count >= LEAST_HELD && traffic_bytes > MOST_TRAFFIC);
}

/* Count a request that was missed, and whose key cannot be held. */
static void
traffic_lost(Traffic **held)
{
    if (*held == NULL)
        *held = traffic_grown(NULL);
    if (*held != NULL)
        (*held)->skipped++;
}

/* Halve all counts: so they are those of the last minutes. */
static void
traffic_halve(Traffic *t)
{
    for (u32 i = 0; t != NULL && i <= t->mask; i++) {
        t->places[i].count /= 2;
        t->places[i].error /= 2;
    }
    if (t != NULL) {
        t->misses /= 2;
        t->skipped /= 2;
    }
}

static void
traffic_free(Traffic *t)
{
    for (u32 i = 0; t != NULL && i <= t->mask; i++)
        Py_XDECREF(t->places[i].shown);
    if (t != NULL)
        traffic_bytes -= traffic_size(t->mask + 1);
    PyMem_Free(t);
}

/* [(shown, count, error, key), ...] */
static PyObject *
traffic_shown(const Traffic *t)
{
    PyObject *all = PyList_New(0);
    for (u32 i = 0; all != NULL && t != NULL && i <= t->mask; i++) {
        const HeldKey *k = &t->places[i];
        if (!k->key)
            continue;
        PyObject *one = Py_BuildValue("(OLLK)", k->shown, k->count, k->error, k->key);
        if (one == NULL || PyList_Append(all, one) < 0)
            Py_CLEAR(all);
        Py_XDECREF(one);
    }
    return all;
}

#endif
