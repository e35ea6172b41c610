/* Times that sampled decisions took. */
#ifndef RATECTL_TIMING_H
#define RATECTL_TIMING_H

#include "base.h"

#define TIME_BOUNDS 12
#define TIMED 1024      /* one call of `check` in so many is timed */

/* Upper bounds in nanoseconds; the same numbers as BOUNDS_NS of engine/timings.py. */
static const i64 time_bounds[TIME_BOUNDS] = {
    100, 250, 500, 1000, 2500, 5000, 10000, 25000, 100000, 1000000, 10000000, 100000000,
};

typedef struct {
    u32 calls;                      /* of `check`, timed or not */
    i64 counts[TIME_BOUNDS + 1];    /* by the first bound that holds; the last: beyond all bounds */
    i64 sum;                        /* nanoseconds */
} Timings;

static void
time_taken(Timings *t, i64 taken)
{
    int i = 0;
    while (i < TIME_BOUNDS && taken > time_bounds[i])
        i++;
    t->counts[i]++;
    t->sum += taken;
}

/* (counts, sum) */
static PyObject *
timings_shown(const Timings *t)
{
    PyObject *counts = PyTuple_New(TIME_BOUNDS + 1);
    for (int i = 0; counts != NULL && i <= TIME_BOUNDS; i++) {
        PyObject *count = PyLong_FromLongLong(t->counts[i]);
        if (count == NULL || PyTuple_SetItem(counts, i, count) < 0)
            Py_CLEAR(counts);
    }
    return counts == NULL ? NULL : Py_BuildValue("(NL)", counts, t->sum);
}

#endif
