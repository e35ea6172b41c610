/* Deciding one request: look at every bucket, then charge all of them or none.

   Keys are made first, since hashing may run Python code. From then on no Python code runs, so that
   no other thread can interrupt: under the GIL, a decision needs no other lock. Cases for Python
   (what requests carry over, changes of one algorithm to another, numbers beyond 61 bits) are
   detected before anything is charged, and answered SLOW. */
#ifndef RATECTL_DECIDE_H
#define RATECTL_DECIDE_H

#include "after.h"

/* Origin of a request: a caller; Python, which has seen it; or Python, changing the engine
   alone. */
typedef enum { CALLER, SEEN, ALONE } Asker;

/* True if Python has to decide now: it changes the engine, or has to see every decision. */
static inline int
keeps_out(const Core *core, Asker asker)
{
    return ((core->turn & 1) && asker != ALONE) || (core->mirrored && asker == CALLER);
}

/* True if a refusal's wait is reported before another: never, then unknown, then the longer one. */
static int
outweighs(i64 wait, i64 other)
{
    if (wait >= 0 && other >= 0)
        return wait > other;
    return other != NEVER && (wait == NEVER || (wait == UNKNOWN && other != UNKNOWN));
}

/* A bucket that is not tracked, and room for what it would own. */
typedef struct {
    Packed packed;
    char room[LEAST_ROOM];
} Scratch;

/* The bucket that an untracked key behaves as: a copy or, with slots, a shared bucket itself. NULL:
   Python has to make it. */
static __attribute__((noinline)) Bucket *
first_touch(Group *g, u64 key, i64 now, Scratch *into)
{
    Packed *scratch = &into->packed;
    const Rule *r = g->rule;
    if (g->former_count || g->start == MADE || r->kind == WIDE)
        return NULL;
    Bucket *shared = shared_bucket(g, key);
    if (unlikely(shared != NULL)) {
        if (shared->epoch != g->epoch && catch_up(g, shared) < 0)
            return NULL;
        if (kind_of(r)->holds)
            return shared; /* a copy would share its slots: `begin` makes one, if there is room */
        memcpy(scratch, shared, r->size);
    } else {
        group_start(g, scratch, now);
    }
    if (r->kind == WINDOW && unlikely(scratch->window.far || scratch->window.len)) {
        if (room_of(&scratch->window) > sizeof into->room)
            return NULL;
        window_detach(scratch, into->room);
    }
    scratch->head.epoch = g->epoch;
    scratch->head.serial = 0;
    return &scratch->head;
}

/* Look at every bucket. 1: all enforced limits admit the request; 0: some refuse; SLOW. */
static i64
look(Request *q, const u64 *keys, Scratch *scratch)
{
    int admitted = 1;
    q->count = q->selection->count;
    for (int i = 0; i < q->count; i++) {
        Look *l = &q->looks[i];
        Group *g = l->group = q->selection->groups[i];
        l->slot = NULL;
        l->drawn = NULL;
        l->key = keys[i];
        l->cost = q->cost;
        if (unlikely(g->unit != NULL))
            l->cost = cost_in_unit(q, g);
        if (unlikely(l->cost < 0) || unlikely(q->absent & ((u64)g->skips << i))) {
            l->bucket = NULL;
            l->serial = 0;
            l->wait = UNASKED;
            continue;
        }
        Bucket *b = group_find(g, keys[i]);
        int tracked = b != NULL;
        if (unlikely(!tracked)) {
            if ((b = first_touch(g, keys[i], q->now, &scratch[i])) == NULL)
                return SLOW;
        } else if (unlikely(b->epoch != g->epoch) && catch_up(g, b) < 0) {
            return SLOW;
        }
        l->bucket = (Packed *)b;
        l->serial = tracked ? b->serial : 0;
        l->wait = likely(g->rule->kind != KEYED) ? wait_of(g->rule, l->bucket, l->cost, q->now)
                                                 : keyed_look(q, i, l);
        if (unlikely(l->wait)) {
            if (l->wait == SLOW)
                return SLOW;
            admitted &= g->shadow | q->selection->shadow;
        } else if (g->rule->kind == WINDOW && l->cost &&
                   !window_ready(&l->bucket->window, q->now, &g->common->budget)) {
            return SLOW;
        }
    }
    return admitted;
}

/* Store the details of the bucket that decided, as it is now. */
static inline void
decided_by(Request *q, int i, Reason reason)
{
    q->decisive = i;
    q->reason = reason;
    if (i < 0)
        return;
    const Rule *r = q->looks[i].group->rule;
    Packed *b = q->looks[i].bucket;
    q->rule = (Rule *)Py_NewRef((PyObject *)r);
    if (likely(r->kind == TOKENS)) {
        q->level = level_at(r, &b->tokens, q->now);
        q->ahead = b->tokens.at > q->now ? b->tokens.at - q->now : 0;
    } else {
        const Look *l = &q->looks[i];
        q->remaining = l->drawn ? l->drawn->left : remaining_of(r, b, q->now);
        q->reset_after = reset_of(r, b, q->now);
    }
}

/* True if a refused request is counted: it does not wait, or waiting does not help. */
static inline int
counts(const Request *q)
{
    return !q->waits || q->wait == NEVER;
}

/* Count a request in the traffic of a limit's keys. */
static inline void
count_key(Request *q, int i, Group *g, u64 key)
{
    if (g->per_count && unlikely(traffic_missed(g->counters->traffic, key)))
        q->missed |= (u64)1 << i;
}

static __attribute__((noinline)) void
refuse(Request *q, int details)
{
    int decisive = -1;
    for (int i = 0; i < q->count; i++) {
        const Look *l = &q->looks[i];
        if (refuses(l) && !l->group->shadow &&
            (decisive < 0 || outweighs(l->wait, q->looks[decisive].wait)))
            decisive = i;
    }
    q->wait = q->looks[decisive].wait;
    for (int i = 0; i < q->count && counts(q); i++) {
        const Look *l = &q->looks[i];
        Counters *c = l->group->counters;
        if (l->wait != UNASKED)
            count_key(q, i, l->group, l->key);
        if (refuses(l))
            *(l->group->shadow ? &c->shadow_refused : l->wait == NEVER ? &c->never : &c->refused) += 1;
    }
    if (details)
        decided_by(q, decisive, q->wait == NEVER ? NEVER_PASSES : LIMITED);
}

/* Make the slots before anything is charged: memory may run out. */
static int
make_slots(Request *q)
{
    for (int i = 0; i < q->count; i++) {
        Look *l = &q->looks[i];
        const Rule *r = l->group->rule;
        if (l->wait || !l->cost || !kind_of(r)->holds)
            continue;
        if (held_prepare(&l->bucket->held, q->now + r->hold_ns, !l->serial) < 0 ||
            (l->slot = slot_new()) == NULL)
            return -1;
    }
    return 0;
}

/* Forget the slots of a request. What was charged stays held: its batches own it. */
static void
drop_slots(Request *q)
{
    for (int i = 0; i < q->count; i++)
        Py_XDECREF((PyObject *)q->looks[i].slot);
}

/* As `begin`, for an untracked key that shares a bucket of slots: it takes them from there to a
   bucket of its own or, without room, charges the shared one. */
static __attribute__((noinline)) void
begin_apart(Request *q, Look *l, Bucket *const *held)
{
    Group *g = l->group;
    Held *shared = &l->bucket->held;
    Bucket *b = track(g, l->key, q->now, held, q->count);
    if (b == NULL) {
        g->common->overflowed++;
    } else if (held_split(shared, (Held *)b) < 0) { /* out of memory */
        PyErr_Clear();
        table_remove(&g->table, b);
    } else {
        b->epoch = g->epoch;
        l->bucket = (Packed *)b;
    }
    l->serial = l->bucket->head.serial = next_serial(g->common);
}

/* Give an untracked key a bucket to charge: its own or, without room, a shared one. */
static __attribute__((noinline)) void
begin(Request *q, Look *l)
{
    Group *g = l->group;
    Packed *scratch = l->bucket;
    Window *window = g->rule->kind == WINDOW ? &scratch->window : NULL;
    if (window && window->far && (int)window->len <= near_places(window) && !window->coarse)
        window_come_near(window);
    int far = window && window->far;
    char *own = NULL;
    if (unlikely(far) && (own = block_new(&g->common->budget, window)) == NULL)
        return; /* out of memory: the charge is lost */
    Bucket *held[MOST_LIMITS];
    for (int i = 0; i < q->count; i++)
        held[i] = (Bucket *)q->looks[i].bucket; /* NULL if it is not consulted */
    if (kind_of(g->rule)->holds && held[l - q->looks] == shared_bucket(g, l->key)) {
        begin_apart(q, l, held);
        return;
    }
    Bucket *b = track(g, l->key, q->now, held, q->count);
    if (unlikely(b == NULL)) {
        g->common->overflowed++;
        b = share(g, l->key);
        if (b == NULL) {
            if (far)
                block_free(&g->common->budget, window, own);
            return; /* out of memory: the charge is lost */
        }
    }
    u64 key = b->key;
    memcpy(b, scratch, g->rule->size);
    b->key = key;
    if (unlikely(far))
        window_own_copy((Window *)b, own);
    b->serial = next_serial(g->common);
    l->bucket = (Packed *)b;
    l->serial = b->serial;
}

/* Charge all limits that admit. With `details`, store the details of the decision. */
static void
admit(Request *q, int details)
{
    int tightest = -1, shadowed = -1;
    i64 least = 0, capacity = 1;
    for (int i = 0; i < q->count; i++) {
        Look *l = &q->looks[i];
        Group *g = l->group;
        Counters *c = g->counters;
        if (unlikely(l->wait)) {
            if (l->wait == UNASKED)
                continue;
            count_key(q, i, g, l->key);
            c->shadow_refused++;
            if (shadowed < 0 || outweighs(l->wait, q->looks[shadowed].wait))
                shadowed = i;
            continue;
        }
        if (unlikely(!l->serial && l->cost && !l->drawn))
            begin(q, l);
        i128 left = likely(!l->drawn) ? charge(g->rule, l->bucket, l->cost, q->now, l->slot)
                                      : wallet_charge(l);
        c->allowed++;
        count_key(q, i, g, l->key);
        if (!g->has_lowest || left < g->lowest) {
            g->lowest = left;
            g->has_lowest = 1;
        }
        if (!details || g->shadow)
            continue;
        if (q->count == 1) { /* nothing to compare it with */
            tightest = i;
            break;
        }
        i64 whole = whole_left(g->rule, left), size = g->rule->most ? g->rule->most : 1;
        if (tightest < 0 || (i128)whole * capacity < (i128)least * size) {
            tightest = i;
            least = whole;
            capacity = size;
        }
    }
    q->wait = 0;
    q->reason = OK;
    if (!details)
        return;
    if (unlikely(shadowed >= 0)) {
        decided_by(q, shadowed, SHADOW);
        return;
    }
    decided_by(q, tightest, OK);
}

/* Count the one limit that admits a request; `left` as from `charge`. */
static inline void
admitted_by_one(Request *q, Look *l, i128 left)
{
    Group *g = l->group;
    g->counters->allowed++;
    if (!g->has_lowest || left < g->lowest) {
        g->lowest = left;
        g->has_lowest = 1;
    }
    count_key(q, 0, g, l->key);
    q->count = 1;
    q->wait = 0;
    q->reason = OK;
    q->decisive = 0;
}

/* `admit_one` for a limit across the cluster. */
static __attribute__((noinline)) i64
admit_pooled(Request *q, Group *g, u64 key, int details)
{
    Rule *r = g->rule;
    Look *l = &q->looks[0];
    Packed *b = (Packed *)group_find(g, key);
    if (b == NULL || b->head.epoch != g->epoch || !pool_allows(r, &b->pool, q->cost, q->now))
        return SLOW;
    *l = (Look){.group = g, .bucket = b, .key = key, .serial = b->head.serial};
    b->pool.spent += q->cost;
    i64 left = pool_left(r, &b->pool, q->now);
    admitted_by_one(q, l, left);
    if (details) {
        q->rule = (Rule *)Py_NewRef((PyObject *)r);
        q->remaining = left;
        q->reset_after = pool_used(r, &b->pool, q->now) * r->per_ns;
    }
    return 1;
}

/* `admit_one` for a limit across the cluster that counts per key. */
static __attribute__((noinline)) i64
admit_keyed(Request *q, Group *g, u64 key, int details)
{
    Rule *r = g->rule;
    Look *l = &q->looks[0];
    Packed *b = (Packed *)group_find(g, key);
    if (b == NULL || b->head.epoch != g->epoch)
        return SLOW;
    *l = (Look){.group = g, .bucket = b, .key = key, .cost = q->cost, .serial = b->head.serial};
    if (!keyed_allows(q, 0, l))
        return SLOW;
    i64 left = (i64)(l->drawn ? wallet_charge(l) : charge(r, b, q->cost, q->now, NULL));
    admitted_by_one(q, l, left);
    if (details) {
        q->rule = (Rule *)Py_NewRef((PyObject *)r);
        q->remaining = left;
        q->reset_after = reset_of(r, b, q->now);
    }
    return 1;
}

/* Decide the most common case: one token bucket, which admits. SLOW: it is another case, and
   nothing was done. */
static inline i64
admit_one(Request *q, u64 key, int details)
{
    Group *g = q->selection->groups[0];
    const Rule *r = g->rule;
    Look *l = &q->looks[0];
    if (unlikely(g->shadow || g->unit != NULL))
        return SLOW;
    if (r->kind != TOKENS)
        return r->kind == POOL    ? admit_pooled(q, g, key, details)
               : r->kind == KEYED ? admit_keyed(q, g, key, details)
                                  : SLOW;
    Bucket *b = group_find(g, key);
    if (b == NULL || b->epoch != g->epoch || tokens_wait(r, &((Packed *)b)->tokens, q->cost, q->now))
        return SLOW;
    *l = (Look){.group = g, .bucket = (Packed *)b, .key = key, .serial = b->serial};
    tokens_charge(r, &l->bucket->tokens, q->cost, q->now);
    i128 left = level_of(&l->bucket->tokens);
    admitted_by_one(q, l, left);
    if (details) {
        q->rule = (Rule *)Py_NewRef((PyObject *)r);
        q->level = left;
        q->ahead = l->bucket->tokens.at > q->now ? l->bucket->tokens.at - q->now : 0;
    }
    return 1;
}

/* Decide as of the latest instant: a clock that has stepped back stands still until it gets there
   again. -1: that instant is too large. */
static __attribute__((noinline)) int
stand_still(const Core *core, Request *q)
{
    if (core->last >= MOST_TIME)
        return -1;
    q->lag = core->last - q->now;
    q->now = core->last;
    return 0;
}

static i64 decide_all(Core *core, Request *q, const u64 *keys, int details);

/* Decide. 1: admitted and charged; 0: refused; SLOW; -1: an error. `q` owns its selection, holds
   the cost and, unless the core reads the clock, the instant. */
static i64
decide(Core *core, Request *q, const Source *source, int details, int read_clock, Asker asker)
{
    u64 keys[MOST_LIMITS];
    q->rule = NULL;
    q->missed = q->unnamed = 0;
    if (unlikely(q->selection->count > MOST_LIMITS))
        return SLOW;
    i64 answer = keys_of(q->selection, source, keys, &q->absent);
    if (unlikely(answer < 0))
        return answer;
    if (unlikely(q->selection->mark_count) && (answer = all_carried(q->selection, source)) != 1)
        return answer;
    /* From here on, no Python code runs until all is charged. */
    if (unlikely(q->selection->swaps != core->swaps || keeps_out(core, asker)))
        return SLOW;
    if (read_clock)
        q->now = monotonic_ns();
    if (likely(q->now >= core->last)) {
        core->last = q->now;
        q->lag = 0;
    } else if (stand_still(core, q) < 0) {
        return SLOW;
    }
    if (q->selection->count == 1 && likely(!q->absent)) {
        answer = admit_one(q, keys[0], details);
        if (likely(answer == 1)) {
            if (unlikely(q->missed))
                hold_keys(q, source);
            if (unlikely(q->unnamed))
                name_wallets(core, q, source);
            return 1;
        }
    }
    answer = decide_all(core, q, keys, details);
    if (unlikely(q->absent) && (answer == 1 || (answer == 0 && counts(q))))
        count_absent(q);
    if (unlikely(q->missed))
        hold_keys(q, source);
    if (unlikely(q->unnamed))
        name_wallets(core, q, source);
    /* Not in `decide_all`: foreign code needs the stack that its arrays take. */
    if (unlikely(answer == 0) && counts(q) && unlikely(count_refused(core, q, source) < 0)) {
        Py_CLEAR(q->rule);
        return -1;
    }
    return answer;
}

static __attribute__((noinline)) i64
decide_all(Core *core, Request *q, const u64 *keys, int details)
{
    Scratch scratch[MOST_LIMITS];
    i64 answer = look(q, keys, scratch);
    if (answer == 1) {
        if (unlikely(q->selection->holds) && make_slots(q) < 0) {
            drop_slots(q);
            for (int i = 0; i < q->count; i++)
                if (&scratch[i].packed == q->looks[i].bucket && q->looks[i].group->rule->kind == HELD)
                    held_become(&scratch[i].packed.held, NULL);
            return -1;
        }
        admit(q, details);
    } else if (answer == 0) {
        refuse(q, details);
    }
    return answer;
}

#endif
