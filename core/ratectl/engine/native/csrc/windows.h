/* Sliding windows: the arithmetic of sliding_window.py on packed rings.

   A sub-window's count takes two bytes (a narrow ring): the counts of nearly all keys fit, however
   much their limit admits. A bucket with a larger count owns a broad ring elsewhere, of eight bytes
   for each count. A charge must not fail for lack of memory, so it never makes a broad ring: that
   request is SLOW, once. */
#ifndef RATECTL_WINDOWS_H
#define RATECTL_WINDOWS_H

#include "rule.h"

_Static_assert(offsetof(Window, ring.broad.mark) == offsetof(Window, ring.narrow[SLOTS - 1]),
               "the mark lies where a narrow ring has its last count");

#define MOST_NARROW (UINT16_MAX - 1)
#define RING_BYTES (SLOTS * sizeof(u64))

static inline int
is_broad(const Window *b)
{
    return b->ring.broad.mark == UINT16_MAX;
}

static inline u64
count_in(const Window *b, i64 slot)
{
    int i = (int)(slot & (SLOTS - 1));
    return unlikely(is_broad(b)) ? b->ring.broad.counts[i] : b->ring.narrow[i];
}

/* The count must fit. */
static inline void
set_count(Window *b, i64 slot, u64 count)
{
    int i = (int)(slot & (SLOTS - 1));
    if (unlikely(is_broad(b)))
        b->ring.broad.counts[i] = count;
    else
        b->ring.narrow[i] = (u16)count;
}

static inline u64
total_of(const Window *b)
{
    if (unlikely(is_broad(b))) {
        u64 total = 0;
        for (int i = 0; i < SLOTS; i++)
            total += b->ring.broad.counts[i];
        return total;
    }
    u32 total = 0;
    for (int i = 0; i < SLOTS; i++)
        total += b->ring.narrow[i];
    return total;
}

/* Memory ---------------------------------------------------------------------------------------- */

/* Broad counts for a bucket to own, even beyond the budget. NULL: out of memory. */
static u64 *
counts_new(Budget *budget)
{
    return grown(budget, NULL, 0, RING_BYTES, 1);
}

static void
ring_adopt(Window *b, u64 *counts)
{
    b->ring.broad.counts = counts;
    b->ring.broad.mark = UINT16_MAX;
}

static void
counts_free(Budget *budget, u64 *counts)
{
    if (counts != NULL)
        budget->used -= RING_BYTES;
    free(counts);
}

/* Free a broad ring. The counts of the bucket are undefined afterwards. */
static inline void
ring_free(Budget *budget, Window *b)
{
    if (likely(!is_broad(b)))
        return;
    counts_free(budget, b->ring.broad.counts);
    b->ring.broad.mark = 0;
}

/* Replace the ring of a copy by broad counts that it does not own, so that it can be changed. */
static void
ring_unfold(Window *b, u64 *counts)
{
    for (int i = 0; i < SLOTS; i++)
        counts[i] = count_in(b, i);
    ring_adopt(b, counts);
}

static inline u64
largest_of(const u64 *counts)
{
    u64 largest = 0;
    for (int i = 0; i < SLOTS; i++)
        largest = counts[i] > largest ? counts[i] : largest;
    return largest;
}

/* Fill a ring, whatever was there: `own`, which the bucket then owns, or a narrow one. */
static void
ring_fill(Window *b, const u64 *counts, u64 *own)
{
    if (own != NULL) {
        memcpy(own, counts, RING_BYTES);
        ring_adopt(b, own);
        return;
    }
    for (int i = 0; i < SLOTS; i++)
        b->ring.narrow[i] = (u16)counts[i];
}

/* Replace a bucket by a copy with unfolded counts. 0: out of memory, and the bucket is
   unchanged. */
static int
ring_fold(Budget *budget, Window *bucket, const Window *copy)
{
    u64 *own = NULL;
    if (largest_of(copy->ring.broad.counts) > MOST_NARROW) {
        own = is_broad(bucket) ? bucket->ring.broad.counts : counts_new(budget);
        if (own == NULL)
            return 0;
    } else {
        ring_free(budget, bucket);
    }
    *bucket = *copy;
    ring_fill(bucket, copy->ring.broad.counts, own);
    return 1;
}

/* Arithmetic ------------------------------------------------------------------------------------ */

static inline void
window_advance(const Rule *r, Window *b, i64 now)
{
    i64 into = now - b->slot * r->slot_ns;
    if (likely(into < r->slot_ns))
        return;
    i64 head = floor_div(now, r->slot_ns);
    i64 from = head - b->slot < SLOTS ? b->slot + 1 : head - SLOTS + 1;
    for (i64 slot = from; slot <= head; slot++)
        set_count(b, slot, 0);
    b->slot = head;
}

static inline i64
window_wait(const Rule *r, Window *b, i64 cost, i64 now)
{
    window_advance(r, b, now);
    if (unlikely(cost > r->most || r->blocked))
        return NEVER;
    i64 excess = (i64)total_of(b) + cost - r->most;
    if (excess <= 0)
        return unlikely((i64)count_in(b, b->slot) + cost > MOST_NARROW && !is_broad(b)) ? SLOW : 0;
    for (i64 slot = b->slot - SLOTS + 1; slot <= b->slot; slot++) {
        excess -= (i64)count_in(b, slot);
        if (excess <= 0)
            return (slot + SLOTS) * r->slot_ns - now;
    }
    return SLOW; /* impossible: counts add up to their total */
}

static inline i64
window_reset(const Rule *r, Window *b, i64 now)
{
    window_advance(r, b, now);
    for (i64 slot = b->slot; slot > b->slot - SLOTS; slot--)
        if (count_in(b, slot))
            return (slot + SLOTS) * r->slot_ns - now;
    return 0;
}

/* The count of a sub-window in a bucket that has advanced to `head`. */
static inline u64
count_by(const Window *b, i64 slot, i64 head)
{
    return slot > head - SLOTS && slot <= b->slot ? count_in(b, slot) : 0;
}

/* True if two windows have equal counts. Changes neither: the clock may step back. */
static inline int
window_same(const Rule *r, const Window *one, const Window *other, i64 now)
{
    i64 present = floor_div(now, r->slot_ns);
    i64 a = one->slot > present ? one->slot : present;
    i64 b = other->slot > present ? other->slot : present;
    int empty = 1, equal = a == b;
    for (i64 i = 0; i < SLOTS; i++) {
        u64 count = count_by(one, a - i, a), against = count_by(other, b - i, b);
        empty &= !count && !against;
        equal &= count == against;
    }
    return empty || equal;
}

#endif
