/* A request while it is being decided, and what each kind of bucket answers and takes. */
#ifndef RATECTL_REQUEST_H
#define RATECTL_REQUEST_H

#include "decision.h"

#define MOST_LIMITS 64

/* In place of a wait: the limit is not consulted. Its cost is UNASKED as well if the request's cost
   does not name its unit; otherwise the request lacks an attribute, and the limit skips these. */
#define UNASKED (-4)

typedef struct {
    Group *group;
    Packed *bucket;
    u64 key;
    i64 wait, cost;
    Slot *slot;
    u32 serial;     /* of the bucket; 0: not tracked */
    KeyWallet *drawn;   /* the tokens come from this wallet; NULL: from the bucket */
} Look;

/* A request while it is being decided. */
typedef struct {
    Selection *selection;   /* owned */
    i64 cost, now;          /* cost: in requests */
    u64 absent;             /* groups, as bits, that count per an attribute which it lacks */
    PyObject *costs;        /* of a mapping of units: a dict that nobody else has; NULL: an integer */
    int waits;              /* it can wait: a refusal for now is not counted */
    u64 missed;             /* looks, as bits, whose key must be held (see traffic.h) */
    u64 unnamed;            /* looks, as bits, whose wallet has no number of its key yet */
    i64 lag;                /* time by which the clock is behind `now`: it has stepped back */
    int count;
    int decisive;
    Reason reason;
    i64 wait;
    Rule *rule;             /* of the bucket that decided; owned, NULL without details */
    i64 remaining, reset_after;     /* for a token bucket, computed from these when read: */
    i128 level;
    i64 ahead;                      /* time from `now` to the bucket's own time, if that is later */
    Look looks[MOST_LIMITS];
} Request;

/* The four switches by kind that each decision goes through. They are no table of functions
   (kinds.h): the compiler inlines them here, and a predicted branch costs less than a call. */

static inline i64
wait_of(const Rule *r, Packed *b, i64 cost, i64 now)
{
    switch (r->kind) {
    case TOKENS: return tokens_wait(r, &b->tokens, cost, now);
    case WINDOW:
        window_drop(r, &b->window, now);
        return window_wait(r, &b->window, cost, now);
    case QUOTA: return quota_wait(r, &b->quota, cost, now);
    case HELD:
        if (cost > r->most)
            return NEVER;
        return held_used(&b->held, now) + cost <= r->most ? 0 : UNKNOWN;
    case POOL: return pool_wait(r, &b->pool, cost, now);
    default: return SLOW;
    }
}

/* Cost that would be admitted at once, after `wait_of`. Not for token buckets. */
static i64
remaining_of(const Rule *r, Packed *b, i64 now)
{
    i64 left;
    switch (r->kind) {
    case WINDOW: left = r->most - (i64)b->window.total; break;
    case QUOTA: left = r->most - b->quota.used; break;
    case POOL: return pool_left(r, &b->pool, now);
    case KEYED: return tokens_left(r, keyed_level(r, &b->tokens, now));
    default: left = r->most - held_used(&b->held, now);
    }
    return left > 0 ? left : 0;
}

static i64
reset_of(const Rule *r, Packed *b, i64 now)
{
    i64 wall;
    switch (r->kind) {
    case WINDOW: return window_reset(r, &b->window, now);
    case QUOTA:
        if (!b->quota.used || wall_at(r, now, &wall) < 0)
            return 0;
        return b->quota.end - wall;
    case POOL: return pool_used(r, &b->pool, now) * r->per_ns;
    case KEYED: return keyed_used(r, &b->tokens, now) * r->window_ns;
    default: return held_used(&b->held, now) ? UNKNOWN : 0;
    }
}

/* Take `cost`, just admitted. Returns what remains: ticks of a token bucket, counts of others. */
static inline i128
charge(const Rule *r, Packed *b, i64 cost, i64 now, Slot *slot)
{
    switch (r->kind) {
    case TOKENS:
        tokens_charge(r, &b->tokens, cost, now);
        return level_of(&b->tokens);
    case WINDOW:
        return window_charge(r, &b->window, cost, now);
    case QUOTA:
        if (!b->quota.used)
            b->quota.since = now;
        b->quota.used += cost;
        return r->most - b->quota.used;
    case POOL:
        b->pool.spent += cost;
        return pool_left(r, &b->pool, now);
    case KEYED:
        tokens_charge(r, &b->tokens, cost, now);
        return tokens_left(r, level_of(&b->tokens));
    default:
        if (cost)
            held_take(&b->held, slot, cost, now + r->hold_ns);
        return r->most - held_used(&b->held, now);
    }
}

/* The cost of a request for a group that counts another unit than requests. UNASKED: the group is not
   consulted. Runs no Python code: names of units and costs are exact texts and integers. */
static __attribute__((noinline)) i64
cost_in_unit(const Request *q, const Group *g)
{
    if (q->costs == NULL)
        return q->cost ? UNASKED : 0; /* the integer 0 peeks at limits of all units */
    PyObject *cost = PyDict_GetItemWithError(q->costs, g->unit);
    return cost ? PyLong_AsLongLong(cost) : UNASKED;
}

/* The wallet that such a request draws from or misses; NULL: there is no room for it. */
static KeyWallet *
wanted(Request *q, int i, const Look *l)
{
    KeyWallets *w = wallets_of(l->group->rule);
    KeyWallet *wallet = w->named ? wallet_made(w, l->key) : NULL;
    if (wallet == NULL)
        return NULL;
    wallet_used(w, wallet);
    q->unnamed |= (u64)!wallet->number << i;
    return wallet;
}

/* True if a bucket of one key, or its wallet, has the tokens. */
static int
keyed_allows(Request *q, int i, Look *l)
{
    const Rule *r = l->group->rule;
    if (unlikely(l->cost > r->most || !r->window_ns))
        return 0;
    i128 left = keyed_level(r, &l->bucket->tokens, q->now) - (i128)l->cost * r->per_token;
    if (left >= 0 && q->now < wallets_of(r)->until) {
        if (left < r->half && l->cost)
            wanted(q, i, l);
        return 1;
    }
    KeyWallet *wallet = wanted(q, i, l);
    if (wallet == NULL || q->now >= wallets_of(r)->deadline || wallet->left < l->cost ||
        keyed_owed(r, &l->bucket->tokens, q->now))
        return 0;
    l->drawn = wallet;
    return 1;
}

static i64
keyed_look(Request *q, int i, Look *l)
{
    const Rule *r = l->group->rule;
    if (keyed_allows(q, i, l))
        return 0;
    if (l->cost > r->most || !r->window_ns)
        return NEVER;
    KeyWallet *wallet = wallet_find(wallets_of(r), l->key);
    if (wallet != NULL)
        wallet_missed(wallet, l->cost, keyed_owed(r, &l->bucket->tokens, q->now));
    return keyed_wait(r, l->cost);
}

/* Take the cost of a request out of a wallet. Returns what is left. No wallet of its limit was made
   since the look: they have not moved. */
static i64
wallet_charge(const Look *l)
{
    l->drawn->left -= l->cost;
    l->drawn->spent += l->cost;
    return l->drawn->left;
}

#endif
