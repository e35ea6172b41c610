/* Packed cells of sliding windows.

   The newest cell is in the bucket's head. Closed cells are a ring: six or eight bytes for each,
   with the exact instant. A window of FEWEST_CELLS has cells of four bytes once there are more than
   two thirds of them (coarse cells). A bucket holds three or four cells (near); with more, it owns
   a block for the others, of the size that its rule may need. */
#ifndef RATECTL_CELLS_H
#define RATECTL_CELLS_H

#include "rule.h"

#define FEWEST_CELLS 24
#define MOST_CELLS 128
#define CELL_BITS 32
#define COUNT_BITS 12
#define MOST_GRAINS 4000
#define MOST_WINDOW ((i64)1 << 31)      /* totals fit 32 bits */
#define ALL_NEAR (NEAR_BYTES + (int)sizeof(char *))
#define MOST_ROOM ((MOST_CELLS - 1) * 8 - NEAR_BYTES)   /* bytes of the largest block, */
#define LEAST_ROOM 104                  /* and of the largest one for FEWEST_CELLS */

_Static_assert(offsetof(Window, block) == offsetof(Window, near) + NEAR_BYTES,
               "near cells continue where a pointer to a block would be");

typedef struct {
    i64 at;
    u64 count;
} Cell;

static inline i64
up(i64 value, u32 bits)
{
    return -(-value >> bits) * ((i64)1 << bits); /* negative values are not shifted to the left */
}

/* A count rounded down to whole grains. */
static inline u64
whole(u64 count, u32 grain_bits)
{
    return count >> grain_bits << grain_bits;
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
    r->quantum = up((r->most + r->cells - 1) / r->cells, r->cells == FEWEST_CELLS ? r->grain_bits : 0);
}

/* True if a window with many cells has coarse ones. */
static inline int
rounds(const Window *b)
{
    return b->cells == FEWEST_CELLS;
}

/* Cells from which on the newest one collects requests. */
static inline int
exact_cells(const Window *b)
{
    return b->cells * 2 / 3;
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
    if (rounds(b))
        return exact_width(b) == 6 ? 80 : LEAST_ROOM;
    size_t width = (size_t)exact_width(b), near = NEAR_BYTES / width * width;
    return ((b->cells - 1u) * width - near + 7) / 8 * 8;
}

static inline int
places(const Window *b)
{
    if (!b->far)
        return near_places(b);
    return (b->coarse || !rounds(b) ? b->cells : exact_cells(b)) - 1;
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
           whole(cell.count, b->grain_bits) == cell.count &&
           cell.count >> b->grain_bits <= low(~(u64)0, b->count_bits);
}

/* Replace all cells; the format and the block stay. 0: they do not fit, and the cells are
   undefined. */
static int
cells_write(Window *b, const Cell *cells, int n, int opaque)
{
    u64 total = 0;
    b->first = 0;
    b->coarse = rounds(b) && n > exact_cells(b);
    b->len = (u8)n;
    b->opaque = (u8)opaque;
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
    b->cells = (u8)r->cells;
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
    Cell cells[MOST_CELLS];
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
    Cell cells[MOST_CELLS];
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

#endif
