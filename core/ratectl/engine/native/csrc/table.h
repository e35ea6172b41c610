/* A table of packed buckets of one size, by key.

   Buckets are in chunks of up to 1,024 and never move (except while the first chunk grows). An
   index finds them: extendible hashing (Fagin et al. 1979) over pages of at most 512 places, so
   that growing splits one page at a time, and no insertion waits for the rehashing of a million
   keys. Pages grow in small steps, not by doubling: all split at about the same number of keys, and
   would otherwise be half empty together. Memory is counted in a Budget shared by all tables of an
   engine, and freed by the chunk. */
#ifndef RATECTL_TABLE_H
#define RATECTL_TABLE_H

#include "kinds.h"

#define CHUNK 1024
#define NO_CHUNK UINT32_MAX
#define NO_BUCKET 0xFFFFu
#define SMALL_PAGE 256
#define MOST_PLACES 512
#define PAGE_STEP 64
#define MAX_DEPTH 22

typedef struct {
    char *buckets;
    u32 before, after;      /* in the list of chunks with room */
    u16 used, fresh, freed; /* in use; first never used; first of the list of freed ones */
    u16 room;               /* buckets that its memory holds */
} Chunk;

typedef struct {
    u16 used, size;         /* places */
    u32 depth;
    u64 places[];           /* tag << 32 | number + 1; 0 is free. The tag: upper half of the key */
} Page;

typedef struct {
    Budget *budget;
    Chunk *chunks;
    Page **pages;           /* 1 << depth of them; NULL before the first bucket */
    u32 size;               /* of a bucket, in bytes */
    u32 count, chunk_count, chunk_room;
    u32 with_room, vacant;  /* list of chunks with room; list of places of freed chunks */
    int depth;
    Kind kind;              /* of its buckets */
    int retired;            /* its buckets are not counted any more, but take memory */
    PyObject *rule;         /* by which they are packed, if not the group's present rule */
} Table;

static void
table_init(Table *t, Budget *budget, const Rule *rule)
{
    memset(t, 0, sizeof *t);
    t->budget = budget;
    t->size = rule->size;
    t->kind = rule->kind;
    t->with_room = t->vacant = NO_CHUNK;
}

static inline Bucket *
bucket_of(const Table *t, u32 number)
{
    return (Bucket *)(t->chunks[number / CHUNK].buckets + (size_t)(number % CHUNK) * t->size);
}

static inline Page *
page_of(const Table *t, u64 key)
{
    return t->pages[t->depth ? key >> (64 - t->depth) : 0];
}

/* The place of a tag in a page of this size, if it is free; otherwise the next free one. */
static inline u32
home_of(u32 tag, u32 size)
{
    return (u32)((u64)(tag * 0x9E3779B1u) * size >> 32);
}

static inline Bucket *
table_find(const Table *t, u64 key)
{
    if (t->pages == NULL)
        return NULL;
    const Page *page = page_of(t, key);
    u32 size = page->size, tag = (u32)(key >> 32);
    for (u32 at = home_of(tag, size);; at = at + 1 == size ? 0 : at + 1) {
        u64 place = page->places[at];
        if (place == 0)
            return NULL;
        if ((u32)(place >> 32) == tag) {
            Bucket *b = bucket_of(t, (u32)place - 1);
            if (likely(b->key == key))
                return b;
        }
    }
}

/* The index ------------------------------------------------------------------------------------- */

static inline size_t
page_bytes(u32 size)
{
    return sizeof(Page) + sizeof(u64) * size;
}

/* True if a page of this size may hold so many: free places keep searches short. */
static inline int
fits(u32 used, u32 size)
{
    return used * 8 <= size * 7;
}

static Page *
page_new(Budget *budget, u32 size, u32 depth, int force)
{
    Page *page = grown(budget, NULL, 0, page_bytes(size), force);
    if (page != NULL) {
        memset(page, 0, page_bytes(size));
        page->size = (u16)size;
        page->depth = depth;
    }
    return page;
}

static void
page_free(Budget *budget, Page *page)
{
    budget->used -= page_bytes(page->size);
    free(page);
}

static inline void
page_put(Page *page, u64 place)
{
    u32 at = home_of((u32)(place >> 32), page->size);
    while (page->places[at])
        at = at + 1 == page->size ? 0 : at + 1;
    page->places[at] = place;
    page->used++;
}

/* Double the directory: it then names each page twice. */
static int
directory_grow(Table *t, int force)
{
    size_t n = (size_t)1 << t->depth;
    if (t->depth == MAX_DEPTH)
        return -1;
    Page **pages = grown(t->budget, NULL, 0, 2 * n * sizeof *pages, force);
    if (pages == NULL)
        return -1;
    for (size_t i = 0; i < 2 * n; i++)
        pages[i] = t->pages[i / 2];
    t->budget->used -= n * sizeof *pages;
    free(t->pages);
    t->pages = pages;
    t->depth++;
    return 0;
}

/* Size of the page that replaces a full one; if two replace it, this one gets `count` places. */
static u32
next_size(const Page *page, int split, u32 count)
{
    u32 size = split ? SMALL_PAGE : page->size < SMALL_PAGE ? 2 * page->size : page->size + PAGE_STEP;
    while (!fits(count + 1, size))
        size += PAGE_STEP;
    return size;
}

/* Move a page's places to a larger page, or to two. -1: out of memory. */
static int
page_grow(Table *t, u64 key, int force)
{
    Page *page = page_of(t, key), *low, *high = NULL;
    int split = page->size >= MOST_PLACES;
    if (split && page->depth == (u32)t->depth && directory_grow(t, force) < 0)
        return -1;
    u32 depth = page->depth + (u32)split, upper = 0;
    for (u32 i = 0; split && i < page->size; i++)
        upper += page->places[i] && page->places[i] >> (64 - depth) & 1;
    low = page_new(t->budget, next_size(page, split, page->used - upper), depth, force);
    if (low == NULL)
        return -1;
    if (split && (high = page_new(t->budget, next_size(page, split, upper), depth, force)) == NULL) {
        page_free(t->budget, low);
        return -1;
    }
    for (u32 i = 0; i < page->size; i++) {
        u64 place = page->places[i];
        if (place)
            page_put(split && place >> (64 - depth) & 1 ? high : low, place);
    }
    size_t span = (size_t)1 << ((u32)t->depth - page->depth);
    size_t first = (t->depth ? key >> (64 - t->depth) : 0) & ~(span - 1);
    for (size_t i = 0; i < span; i++)
        t->pages[first + i] = split && i >= span / 2 ? high : low;
    page_free(t->budget, page);
    return 0;
}

static int
index_add(Table *t, u64 key, u32 number, int force)
{
    if (t->pages == NULL) {
        Page **pages = grown(t->budget, NULL, 0, sizeof *pages, force);
        if (pages == NULL)
            return -1;
        if ((pages[0] = page_new(t->budget, 2, 0, force)) == NULL) {
            t->budget->used -= sizeof *pages;
            free(pages);
            return -1;
        }
        t->pages = pages;
    }
    Page *page = page_of(t, key);
    while (unlikely(!fits(page->used + 1u, page->size))) {
        if (page_grow(t, key, force) < 0)
            return -1;
        page = page_of(t, key);
    }
    page_put(page, (key & 0xFFFFFFFF00000000u) | (number + 1));
    return 0;
}

/* Free the place of a bucket, and close the gap, so that later entries are still found. */
static u32
index_remove(Table *t, u64 key, const Bucket *bucket)
{
    Page *page = page_of(t, key);
    u32 size = page->size, at = home_of((u32)(key >> 32), size);
    while (bucket_of(t, (u32)page->places[at] - 1) != bucket)
        at = at + 1 == size ? 0 : at + 1;
    u32 number = (u32)page->places[at] - 1;
    for (u32 next = at + 1 == size ? 0 : at + 1; page->places[next];
         next = next + 1 == size ? 0 : next + 1) {
        u32 home = home_of((u32)(page->places[next] >> 32), size);
        u32 from_home = next >= home ? next - home : next + size - home;
        u32 from_gap = next >= at ? next - at : next + size - at;
        if (from_home >= from_gap) {
            page->places[at] = page->places[next];
            at = next;
        }
    }
    page->places[at] = 0;
    page->used--;
    return number;
}

static void
index_free(Table *t)
{
    if (t->pages == NULL)
        return;
    size_t n = (size_t)1 << t->depth;
    for (size_t i = 0; i < n;) {
        Page *page = t->pages[i];
        i += (size_t)1 << (t->depth - page->depth);
        page_free(t->budget, page);
    }
    t->budget->used -= n * sizeof *t->pages;
    free(t->pages);
    t->pages = NULL;
    t->depth = 0;
}

/* Chunks ---------------------------------------------------------------------------------------- */

static void
leave_room_list(Table *t, u32 i)
{
    Chunk *c = &t->chunks[i];
    *(c->before != NO_CHUNK ? &t->chunks[c->before].after : &t->with_room) = c->after;
    if (c->after != NO_CHUNK)
        t->chunks[c->after].before = c->before;
}

static void
join_room_list(Table *t, u32 i)
{
    Chunk *c = &t->chunks[i];
    c->before = NO_CHUNK;
    c->after = t->with_room;
    if (t->with_room != NO_CHUNK)
        t->chunks[t->with_room].before = i;
    t->with_room = i;
}

/* A chunk with room for one more bucket. NO_CHUNK: out of memory. */
static u32
chunk_with_room(Table *t, int force)
{
    if (t->with_room != NO_CHUNK)
        return t->with_room;
    Chunk *first = t->chunk_count == 1 ? &t->chunks[0] : NULL;
    if (first && first->room < CHUNK) { /* the first one grows: most tables stay small */
        u16 room = (u16)(first->room * 4 < CHUNK ? first->room * 4 : CHUNK);
        char *memory = grown(t->budget, first->buckets, (size_t)first->room * t->size,
                             (size_t)room * t->size, force);
        if (memory == NULL)
            return NO_CHUNK;
        first->buckets = memory;
        first->room = room;
        join_room_list(t, 0);
        return 0;
    }
    u32 i = t->vacant != NO_CHUNK ? t->vacant : t->chunk_count;
    if (i == t->chunk_room) { /* by halves after the first four, so that copying stays short */
        u32 room = i == 0 ? 1 : i < 4 ? 4 : i + i / 2;
        Chunk *chunks = grown(t->budget, t->chunks, t->chunk_room * sizeof *chunks,
                              room * sizeof *chunks, force);
        if (chunks == NULL)
            return NO_CHUNK;
        t->chunks = chunks;
        t->chunk_room = room;
    }
    u16 room = i ? CHUNK : 1;
    char *memory = grown(t->budget, NULL, 0, (size_t)room * t->size, force);
    if (memory == NULL)
        return NO_CHUNK;
    if (i == t->vacant)
        t->vacant = t->chunks[i].after;
    else
        t->chunk_count++;
    t->chunks[i] = (Chunk){memory, 0, 0, 0, 0, NO_BUCKET, room};
    join_room_list(t, i);
    return i;
}

static u32
chunk_take(Table *t, u32 i)
{
    Chunk *c = &t->chunks[i];
    u16 at = c->freed;
    if (at != NO_BUCKET)
        c->freed = (u16)((Bucket *)(c->buckets + (size_t)at * t->size))->serial;
    else
        at = c->fresh++;
    c->used++;
    if (c->freed == NO_BUCKET && c->fresh == c->room)
        leave_room_list(t, i);
    return i * CHUNK + at;
}

static void
chunk_give(Table *t, u32 number)
{
    u32 i = number / CHUNK;
    Chunk *c = &t->chunks[i];
    Bucket *b = bucket_of(t, number);
    if (c->freed == NO_BUCKET && c->fresh == c->room)
        join_room_list(t, i);
    b->key = 0;
    b->serial = c->freed;
    c->freed = (u16)(number % CHUNK);
    c->used--;
    if (c->used == 0 && i > 0) {
        leave_room_list(t, i);
        free(c->buckets);
        t->budget->used -= (size_t)CHUNK * t->size;
        *c = (Chunk){.after = t->vacant};
        t->vacant = i;
    }
}

/* The table ------------------------------------------------------------------------------------- */

/* A new bucket with its key; all else is undefined. NULL: no memory. `force`: even beyond the
   budget. */
static Bucket *
table_add(Table *t, u64 key, int force)
{
    Budget *budget = t->budget;
    if (!force && budget->buckets >= budget->most_buckets)
        return NULL;
    u32 i = chunk_with_room(t, force);
    if (i == NO_CHUNK)
        return NULL;
    u32 number = chunk_take(t, i);
    Bucket *b = bucket_of(t, number);
    b->key = key;
    if (index_add(t, key, number, force) < 0) {
        chunk_give(t, number);
        return NULL;
    }
    t->count++;
    budget->buckets += !t->retired;
    return b;
}

/* Free what a bucket owns. */
static inline void
bucket_end(Kind kind, Budget *budget, Bucket *b)
{
    if (kinds[kind].end != NULL)
        kinds[kind].end(budget, (Packed *)b);
}

static void
table_remove(Table *t, Bucket *b)
{
    u32 number = index_remove(t, b->key, b);
    bucket_end(t->kind, t->budget, b);
    chunk_give(t, number);
    t->count--;
    t->budget->buckets -= !t->retired;
    if (t->count == 0)
        index_free(t);
}

/* Free the last chunks, at most `most` of them. Returns the number of chunks left. */
static u32
table_drop(Table *t, u32 most)
{
    while (t->chunk_count && most--) {
        Chunk *c = &t->chunks[t->chunk_count - 1];
        for (u16 at = 0; at < c->fresh && kinds[t->kind].end != NULL; at++) {
            Bucket *b = (Bucket *)(c->buckets + (size_t)at * t->size);
            if (b->key)
                bucket_end(t->kind, t->budget, b);
        }
        free(c->buckets);
        t->budget->used -= (size_t)c->room * t->size;
        t->budget->buckets -= t->retired ? 0 : c->used;
        t->count -= c->used;
        t->chunk_count--;
    }
    if (t->chunk_count == 0) {
        index_free(t);
        t->budget->used -= t->chunk_room * sizeof *t->chunks;
        free(t->chunks);
        t->chunks = NULL;
        t->chunk_room = 0;
        t->with_room = t->vacant = NO_CHUNK;
    }
    return t->chunk_count;
}

#endif
