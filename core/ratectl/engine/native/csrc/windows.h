/* Sliding windows: the arithmetic of sliding_window.py on packed cells.

   The newest cell is in the bucket's head. Closed cells are a ring: six or eight bytes for each,
   with the exact instant, or four bytes once there are more than EXACT (coarse cells). A bucket
   holds three or four of them (near); with more, it owns a block for the others. */
#ifndef RATECTL_WINDOWS_H
#define RATECTL_WINDOWS_H

#include "rule.h"

#define EXACT 16
#define CELLS 24
#define CELL_BITS 32
#define COUNT_BITS 12
#define MOST_GRAINS 4000
#define MOST_WINDOW ((i64)1 << 31)      /* a total and its rounding fit 32 bits */
#define ALL_NEAR (NEAR_BYTES + (int)sizeof(char *))
#define MOST_ROOM 104                   /* bytes of the largest block */

_Static_assert(offsetof(Window, block) == offsetof(Window, near) + NEAR_BYTES,
               "near cells continue where a pointer to a block would be");

typedef struct {
    i64 at;
    u64 count;
} Cell;

static inline i64
up(i64 value, u32 bits)
{
    return -(-value >> bits) << bits;
}

/* Compute how windows of a rule are packed. */
static void
window_measure(Rule *r)
{
    u32 bits = 1;
    while (bits < COUNT_BITS && r->most >> bits)
        bits++;
    r->count_bits = bits;
    r->unit_bits = r->grain_bits = 0;
    while ((r->window_ns + 1) >> (r->unit_bits + CELL_BITS - bits))
        r->unit_bits++;
    while (r->most && (r->most - 1) / MOST_GRAINS >> r->grain_bits)
        r->grain_bits++;
    r->quantum = up((r->most + CELLS - 1) / CELLS, r->grain_bits);
}

/* Places of cells ------------------------------------------------------------------------------- */

static inline u32
instant_bits(const Window *b)
{
    return b->unit_bits + CELL_BITS - b->count_bits;
}

/* Bytes of an exact cell: an instant, and a count of count_bits + grain_bits + 1 bits or more. */
static inline int
exact_width(const Window *b)
{
    return b->unit_bits + b->grain_bits < 48 - CELL_BITS ? 6 : 8;
}

/* Exact cells that a bucket without a block holds. */
static inline int
near_places(const Window *b)
{
    return exact_width(b) == 6 ? ALL_NEAR / 6 : ALL_NEAR / 8;
}

/* Bytes of the block that a bucket needs. */
static inline size_t
room_of(const Window *b)
{
    return exact_width(b) == 6 ? 72 : MOST_ROOM;
}

static inline int
places(const Window *b)
{
    return b->coarse ? CELLS - 1 : b->far ? EXACT - 1 : near_places(b);
}

static inline char *
place(const Window *b, int i, int width)
{
    int most = places(b), at = (int)b->first + i;
    at -= at >= most ? most : 0;
    int near = width == 4 ? NEAR_BYTES / 4 : width == 6 ? NEAR_BYTES / 6 : NEAR_BYTES / 8;
    near = b->far ? near : most;
    return at < near ? (char *)b + offsetof(Window, near) + at * width
                     : b->block + (at - near) * width;
}

static inline u64
low(u64 value, u32 bits)
{
    return value & (((u64)1 << bits) - 1);
}

/* Read cell `i` of `len`, counted from the oldest. */
static inline Cell
cell_of(const Window *b, int i)
{
    if (i == (int)b->len - 1)
        return (Cell){b->at, b->open};
    u64 packed = 0;
    if (b->coarse) {
        u32 coarse;
        memcpy(&coarse, place(b, i, 4), 4);
        i64 at = b->at >> b->unit_bits;
        u64 age = low((u64)at - (coarse >> b->count_bits), CELL_BITS - b->count_bits);
        return (Cell){(i64)((u64)(at - (i64)age) << b->unit_bits),
                      low(coarse, b->count_bits) << b->grain_bits};
    }
    int width = exact_width(b);
    u32 bits = instant_bits(b);
    if (width == 6)
        memcpy(&packed, place(b, i, 6), 6);
    else
        memcpy(&packed, place(b, i, 8), 8);
    return (Cell){b->at - (i64)low((u64)b->at - packed, bits), packed >> bits};
}

static inline int
fits_exact(const Window *b, u64 count)
{
    return !(count >> (exact_width(b) * 8 - (int)instant_bits(b)));
}

/* Write a closed cell, which must fit. */
static inline void
cell_put(Window *b, int i, Cell cell)
{
    if (b->coarse) {
        u32 coarse = (u32)((u64)(cell.at >> b->unit_bits) << b->count_bits |
                           cell.count >> b->grain_bits);
        memcpy(place(b, i, 4), &coarse, 4);
        return;
    }
    u32 bits = instant_bits(b);
    u64 packed = cell.count << bits | low((u64)cell.at, bits);
    if (exact_width(b) == 6)
        memcpy(place(b, i, 6), &packed, 6);
    else
        memcpy(place(b, i, 8), &packed, 8);
}

static int
cells_read(const Window *b, Cell *cells)
{
    for (int i = 0; i < (int)b->len; i++)
        cells[i] = cell_of(b, i);
    return (int)b->len;
}

static int
fits_coarse(const Window *b, Cell cell)
{
    return up(cell.at, b->unit_bits) == cell.at &&
           up((i64)cell.count, b->grain_bits) == (i64)cell.count &&
           cell.count >> b->grain_bits <= low(~(u64)0, b->count_bits);
}

/* Replace all cells; the format and the block stay. 0: they do not fit, and the cells are
   undefined. */
static int
cells_write(Window *b, const Cell *cells, int n, int opaque)
{
    u64 total = 0;
    b->first = 0;
    b->coarse = n > EXACT;
    b->len = (u32)n;
    b->opaque = (u32)opaque;
    if (n && cells[n - 1].count > UINT32_MAX)
        return 0;
    b->at = n ? cells[n - 1].at : 0;
    b->open = n ? (u32)cells[n - 1].count : 0;
    for (int i = 0; i < n; i++) {
        total += cells[i].count;
        if (i == n - 1)
            break;
        i64 age = b->at - cells[i].at;
        if (age < 0 || (u64)age >> instant_bits(b) || total > UINT32_MAX ||
            !(b->coarse ? fits_coarse(b, cells[i]) : fits_exact(b, cells[i].count)))
            return 0;
        cell_put(b, i, cells[i]);
    }
    b->total = (u32)total;
    return total <= UINT32_MAX;
}

/* Memory ---------------------------------------------------------------------------------------- */

/* A block for a bucket to own, even beyond the budget. NULL: out of memory. */
static char *
block_new(Budget *budget, const Window *b)
{
    return grown(budget, NULL, 0, room_of(b), 1);
}

static void
block_free(Budget *budget, const Window *b, char *block)
{
    budget->used -= room_of(b);
    free(block);
}

static inline void
window_free(Budget *budget, Window *b)
{
    if (unlikely(b->far))
        block_free(budget, b, b->block);
    b->far = 0;
}

/* Make a bucket empty, and without a block. */
static inline void
window_clear(const Rule *r, Window *b)
{
    b->at = 0;
    b->open = b->total = 0;
    b->unit_bits = r->unit_bits;
    b->count_bits = r->count_bits;
    b->grain_bits = r->grain_bits;
    b->first = b->len = b->opaque = b->coarse = b->far = 0;
}

/* Give a bucket a block. Its cells are undefined if it had none. */
static inline void
window_own(Window *b, char *block)
{
    b->block = block;
    b->far = 1;
}

/* Replace the block by a copy. */
static void
window_own_copy(Window *b, char *block)
{
    memcpy(block, b->block, room_of(b));
    b->block = block;
}

/* Move the closed cells of a bucket without a block to one. */
static void
window_go_far(Window *b, char *block)
{
    Cell cells[CELLS];
    int n = cells_read(b, cells);
    window_own(b, block);
    cells_write(b, cells, n, (int)b->opaque);
}

static int
window_fits_near(const Window *b)
{
    return !b->coarse && (int)b->len - 1 <= near_places(b);
}

/* Move the closed cells out of a block that the bucket does not own. */
static void
window_come_near(Window *b)
{
    Cell cells[CELLS];
    int n = cells_read(b, cells);
    b->far = 0;
    cells_write(b, cells, n, (int)b->opaque);
}

/* Make a copy of a bucket use `room` as its block. */
static void
window_borrow(Window *b, char *room)
{
    if (b->far)
        window_own_copy(b, room);
    else
        window_go_far(b, room);
}

/* Fill a bucket, whatever was there. 0: the cells do not fit. */
static int
window_build(const Rule *r, Window *b, const Cell *cells, int n, int opaque, Budget *budget)
{
    char *own = NULL;
    if (opaque < 0 || opaque > n)
        return 0;
    window_clear(r, b);
    if (n - 1 > near_places(b)) {
        if ((own = block_new(budget, b)) == NULL)
            return 0;
        window_own(b, own);
    }
    if (cells_write(b, cells, n, opaque))
        return 1;
    window_free(budget, b);
    return 0;
}

/* Arithmetic ------------------------------------------------------------------------------------ */

/* Forget the cells that have expired. */
static inline void
window_drop(const Rule *r, Window *b, i64 now)
{
    while (b->len) {
        Cell oldest = cell_of(b, 0);
        if (likely(oldest.at + r->window_ns > now))
            return;
        b->first = (int)b->first + 1 < places(b) ? b->first + 1 : 0;
        b->total -= (u32)oldest.count;
        b->opaque -= b->opaque != 0;
        b->len--;
    }
    b->first = b->coarse = 0;
}

/* Number of cells that have expired, and in `total` the count of the others. */
static inline int
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

static inline i64
window_used(const Rule *r, const Window *b, i64 now)
{
    i64 total;
    window_expired(r, b, now, &total);
    return total;
}

static inline i64
window_wait(const Rule *r, const Window *b, i64 cost, i64 now)
{
    if (unlikely(cost > r->most || r->blocked))
        return NEVER;
    i64 excess = (i64)b->total + cost - r->most;
    for (int i = 0; unlikely(excess > 0); i++) {
        Cell cell = cell_of(b, i);
        excess -= (i64)cell.count;
        if (excess <= 0)
            return cell.at + r->window_ns > now ? cell.at + r->window_ns - now : 0;
    }
    return 0;
}

static inline i64
window_reset(const Rule *r, const Window *b, i64 now)
{
    for (int i = (int)b->len - 1; i >= 0; i--) {
        Cell cell = cell_of(b, i);
        if (cell.count)
            return cell.at + r->window_ns > now ? cell.at + r->window_ns - now : 0;
    }
    return 0;
}

/* Make room for a charge, which must not fail. 0: out of memory, or a count that does not fit. */
static __attribute__((noinline)) int
window_prepare(const Rule *r, Window *b, i64 now, Budget *budget)
{
    i64 total;
    int gone = window_expired(r, b, now, &total), kept = (int)b->len - gone;
    if (kept >= EXACT)
        return 1;
    for (int i = b->coarse ? gone : (int)b->len - 1; i < (int)b->len; i++)
        if (!fits_exact(b, cell_of(b, i).count))
            return 0;
    if (b->far || kept <= near_places(b))
        return 1;
    char *block = block_new(budget, b);
    if (block == NULL)
        return 0;
    window_go_far(b, block);
    return 1;
}

static inline int
window_ready(const Rule *r, Window *b, i64 now, Budget *budget)
{
    if (b->len == 0 || now <= b->at)
        return 1;
    if (b->len >= EXACT ? cell_of(b, 0).at + r->window_ns > now
                        : b->far && !b->coarse && fits_exact(b, b->open))
        return 1;
    return window_prepare(r, b, now, budget);
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
    if (n <= EXACT)
        return n;
    Cell newest = cells[n - 1];
    int closed = 0;
    for (int i = 0; i < n - 1; i++) {
        i64 at = up(cells[i].at, b->unit_bits);
        if (at > newest.at)
            newest.count += cells[i].count;
        else
            cells[closed++] = (Cell){at, (u64)up((i64)cells[i].count, b->grain_bits)};
    }
    *opaque = *opaque <= closed ? *opaque : closed + 1;
    while (closed >= CELLS)
        cells_merge(cells, closed--, opaque);
    cells[closed] = newest;
    return closed + 1;
}

/* Close the newest cell, and begin another. */
static __attribute__((noinline)) void
window_push(Window *b, u32 cost, i64 now)
{
    int n = (int)b->len, opaque = (int)b->opaque, coarse = n >= EXACT;
    if (coarse == (int)b->coarse && n < CELLS) {
        Cell newest = cell_of(b, n - 1);
        if (coarse)
            newest = (Cell){up(newest.at, b->unit_bits), (u64)up(b->open, b->grain_bits)};
        b->len++;
        b->total += (u32)newest.count - b->open + cost;
        b->at = now;
        b->open = cost;
        cell_put(b, n - 1, newest);
        return;
    }
    Cell cells[CELLS + 1];
    cells_read(b, cells);
    cells[n] = (Cell){now, cost};
    n = cells_fit(b, cells, n + 1, &opaque);
    cells_write(b, cells, n, opaque);
}

/* `SlidingWindow.continued`, for a copy with a block. 0: the cells do not fit. */
static int
window_continue(const Rule *before, const Rule *after, Window *b, i64 now)
{
    Cell cells[CELLS];
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
        return r->most - window_used(r, b, now);
    window_drop(r, b, now);
    if (b->len == 0) {
        b->at = now;
        b->open = b->total = (u32)cost;
        b->len = 1;
    } else if (now <= b->at) {
        b->open += (u32)cost;
        b->total += (u32)cost;
    } else if (b->len >= EXACT && (b->open + cost <= r->quantum || now < up(b->at, b->unit_bits))) {
        b->at = now;
        b->open += (u32)cost;
        b->total += (u32)cost;
    } else {
        window_push(b, (u32)cost, now);
    }
    return r->most > (i64)b->total ? r->most - (i64)b->total : 0;
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
