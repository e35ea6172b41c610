/* Sliding windows: the arithmetic of sliding_window.py on packed cells. */
#ifndef RATECTL_WINDOWS_H
#define RATECTL_WINDOWS_H

#include "cells.h"

/* Forget the cells that have expired. A decision begins with it, for time never steps back. */
static inline void
window_drop(const Rule *r, Window *b, i64 now)
{
    while (b->len) {
        Cell oldest = cell_of(b, 0);
        if (likely(oldest.at + r->window_ns > now))
            return;
        b->first = (u8)((int)b->first + 1 < places(b) ? b->first + 1 : 0);
        b->total -= (u32)oldest.count;
        b->opaque -= b->opaque != 0;
        b->len--;
    }
    b->first = b->coarse = 0;
}

/* Time until a window without expired cells admits a cost. */
static inline i64
window_wait(const Rule *r, const Window *b, i64 cost, i64 now)
{
    if (unlikely(cost > r->most || r->blocked))
        return NEVER;
    i64 excess = (i64)b->total + cost - r->most, wait = 0;
    for (int i = 0; unlikely(excess > 0); i++) {
        Cell cell = cell_of(b, i);
        excess -= (i64)cell.count;
        wait = cell.at + r->window_ns - now;
    }
    return wait;
}

/* Time until a window without expired cells counts nothing. */
static inline i64
window_reset(const Rule *r, const Window *b, i64 now)
{
    for (int i = (int)b->len - 1; i >= 0; i--) {
        Cell cell = cell_of(b, i);
        if (cell.count)
            return cell.at + r->window_ns - now;
    }
    return 0;
}

/* Make room for a charge, which must not fail. 0: out of memory, or a count that does not fit. */
static __attribute__((noinline)) int
window_prepare(Window *b, Budget *budget)
{
    for (int i = b->coarse ? 0 : (int)b->len - 1; i < (int)b->len; i++)
        if (!fits_exact(b, cell_of(b, i).count))
            return 0;
    if (b->far || (int)b->len <= near_places(b))
        return 1;
    char *block = block_new(budget, b);
    if (block == NULL)
        return 0;
    window_go_far(b, block);
    return 1;
}

/* As `window_prepare`, for a window without expired cells. */
static inline int
window_ready(Window *b, i64 now, Budget *budget)
{
    if (b->len == 0 || now <= b->at || (rounds(b) && b->len >= exact_cells(b)))
        return 1;
    if ((b->far || (int)b->len <= near_places(b)) && !b->coarse && fits_exact(b, b->open))
        return 1;
    return window_prepare(b, budget);
}

/* Merge the two neighbours with the smallest sum. */
static void
cells_merge(Cell *cells, int n, int *opaque)
{
    int at = 0;
    u64 least = UINT64_MAX;
    for (int i = 0; i + 1 < n; i++) {
        if (cells[i].count + cells[i + 1].count < least) {
            least = cells[i].count + cells[i + 1].count;
            at = i;
        }
    }
    cells[at] = (Cell){cells[at + 1].at, least};
    memmove(&cells[at + 1], &cells[at + 2], (size_t)(n - at - 2) * sizeof *cells);
    *opaque -= at + 1 < *opaque;
}

/* `SlidingWindow._fitted`. Returns the number of cells. */
static int
cells_fit(const Window *b, Cell *cells, int n, int *opaque)
{
    if (n <= exact_cells(b))
        return n;
    u32 unit_bits = rounds(b) ? b->unit_bits : 0, grain_bits = rounds(b) ? b->grain_bits : 0;
    Cell newest = cells[n - 1];
    u64 rest = 0;
    int closed = 0;
    for (int i = 0; i < n - 1; i++) {
        i64 at = up(cells[i].at, unit_bits);
        rest += cells[i].count;
        if (at <= newest.at) {
            cells[closed++] = (Cell){at, whole(rest, grain_bits)};
            rest -= cells[closed - 1].count;
        }
    }
    newest.count += rest;
    *opaque = *opaque <= closed ? *opaque : closed + 1;
    while (closed >= (int)b->cells)
        cells_merge(cells, closed--, opaque);
    cells[closed] = newest;
    return closed + 1;
}

/* Close the newest cell, and begin another. */
static __attribute__((noinline)) void
window_push(Window *b, u32 cost, i64 now)
{
    int n = (int)b->len, opaque = (int)b->opaque, coarse = rounds(b) && n >= exact_cells(b);
    if (coarse == (int)b->coarse && n < (int)b->cells) {
        Cell newest = {b->at, b->open};
        if (coarse)
            newest = (Cell){up(b->at, b->unit_bits), whole(b->open, b->grain_bits)};
        b->len++;
        b->total += cost;
        b->at = now;
        b->open = cost + (b->open - (u32)newest.count);
        cell_put(b, n - 1, newest);
        return;
    }
    Cell cells[MOST_CELLS + 1];
    cells_read(b, cells);
    cells[n] = (Cell){now, cost};
    n = cells_fit(b, cells, n + 1, &opaque);
    cells_write(b, cells, n, opaque);
}

/* `SlidingWindow.continued`, for a copy with a block. 0: the cells do not fit. */
static int
window_continue(const Rule *before, const Rule *after, Window *b, i64 now)
{
    Cell cells[MOST_CELLS];
    char *block = b->block;
    now = b->len && b->at > now ? b->at : now;
    window_drop(before, b, now);
    int n = cells_read(b, cells), opaque = (int)b->opaque, gone = 0;
    while (gone < n && cells[gone].at + after->window_ns <= now)
        gone++;
    n -= gone;
    opaque = opaque > gone ? opaque - gone : 0;
    memmove(cells, cells + gone, (size_t)n * sizeof *cells);
    window_clear(after, b);
    window_own(b, block);
    n = cells_fit(b, cells, n, &opaque);
    return cells_write(b, cells, n, opaque);
}

/* Charge a bucket for which window_ready() was true. Returns what remains. */
static inline i64
window_charge(const Rule *r, Window *b, i64 cost, i64 now)
{
    if (unlikely(!cost))
        return r->most - (i64)b->total;
    if (b->total == 0) {
        b->at = now;
        b->open = b->total = (u32)cost;
        b->len = 1;
        b->first = b->opaque = b->coarse = 0;
    } else if (now <= b->at) {
        b->open += (u32)cost;
        b->total += (u32)cost;
    } else if (b->len >= exact_cells(b) &&
               (b->open + cost <= r->quantum || (rounds(b) && now < up(b->at, b->unit_bits)))) {
        b->at = now;
        b->open += (u32)cost;
        b->total += (u32)cost;
    } else {
        window_push(b, (u32)cost, now);
    }
    return r->most - (i64)b->total;
}

/* Number of cells that have expired, and in `total` the count of the others. */
static int
window_expired(const Rule *r, const Window *b, i64 now, i64 *total)
{
    int i = 0;
    *total = b->total;
    for (; i < (int)b->len; i++) {
        Cell cell = cell_of(b, i);
        if (likely(cell.at + r->window_ns > now))
            break;
        *total -= (i64)cell.count;
    }
    return i;
}

/* True if two windows have equal cells from `now` on. Changes neither: the clock may step back. */
static int
window_same(const Rule *r, const Window *one, const Window *other, i64 now)
{
    i64 first, second;
    int i = window_expired(r, one, now, &first), j = window_expired(r, other, now, &second);
    if (!first && !second)
        return 1;
    if ((int)one->len - i != (int)other->len - j)
        return 0;
    for (; i < (int)one->len; i++, j++) {
        Cell a = cell_of(one, i), c = cell_of(other, j);
        if (a.at != c.at || a.count != c.count)
            return 0;
    }
    return 1;
}

#endif
