/* How full the buckets of a group are: the number of its keys by their use of the limit. */
#ifndef RATECTL_FILL_H
#define RATECTL_FILL_H

#include "decide.h"

#define FILL_BOUNDS 4
#define WHOLE 1000

/* In thousandths of the capacity; the same numbers as FILL_BOUNDS of engine/api.py. */
static const int fill_bounds[FILL_BOUNDS] = {500, 800, 900, WHOLE};

/* The use of a bucket, rounded up to whole costs, in thousandths. -1: only Python can tell. */
static int
use_of(const Rule *r, Packed *b, i64 now)
{
    i128 used;
    if (r->kind == TOKENS) {
        i128 missing = r->capacity - level_at(r, &b->tokens, now);
        used = (i128)wide_ceil_div((u128)missing, (u64)r->per_token);
    } else if (r->kind == KEYED) {
        used = keyed_used(r, &b->tokens, now);
    } else if (r->kind == POOL) {
        used = pool_used(r, &b->pool, now);
    } else {
        if (r->kind == WINDOW)
            window_drop(r, &b->window, now);
        else if (r->kind == QUOTA) {
            i64 wall;
            if (wall_at(r, now, &wall) < 0 || quota_advance(r, &b->quota, now, wall) < 0)
                return -1;
        }
        used = (i128)r->most - remaining_of(r, b, now);
    }
    return used >= r->most ? WHOLE : (int)(used * WHOLE / r->most);
}

/* fill(group, at, most, now) -> (at, counts): numbers of keys by the use of their buckets, of at
   most `most` places from place `at` on. The returned place is where to go on; -1 at the end.
   Boxed buckets, and those that only Python can bring up to date, are not counted. */
static PyObject *
fill(PyObject *module, PyObject *args)
{
    Group *g;
    long long at, now;
    int most;
    i64 counts[FILL_BOUNDS + 1] = {0};
    (void)module;
    if (!PyArg_ParseTuple(args, "O!LiL", group_type, &g, &at, &most, &now))
        return NULL;
    u32 place = (u32)at;
    while (most-- > 0) {
        u32 chunk = place / CHUNK;
        if (g->rule->kind == WIDE || chunk >= g->table.chunk_count) {
            at = -1;
            break;
        }
        if (place % CHUNK >= g->table.chunks[chunk].fresh) {
            at = place = (chunk + 1) * CHUNK;
            continue;
        }
        Bucket *b = bucket_of(&g->table, place);
        at = ++place;
        if (b->key == 0 || b->epoch & BOXED || (b->epoch != g->epoch && catch_up(g, b) < 0))
            continue;
        int use = use_of(g->rule, (Packed *)b, now), i = 0;
        while (use >= 0 && i < FILL_BOUNDS && use >= fill_bounds[i])
            i++;
        counts[i] += use >= 0;
    }
    return Py_BuildValue("(L(LLLLL))", at, counts[0], counts[1], counts[2], counts[3], counts[4]);
}

#endif
