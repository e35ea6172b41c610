/* Answers of Envoy's Rate Limit Service, as bytes: those to requests that were allowed, and to those
   with one descriptor that a limit refused. */
#ifndef RATECTL_RLS_WRITE_H
#define RATECTL_RLS_WRITE_H

#include "decision.h"

static inline unsigned char *
rls_put(unsigned char *at, u64 value)
{
    for (; value > 0x7f; value >>= 7)
        *at++ = (unsigned char)(value & 0x7f) | 0x80;
    *at++ = (unsigned char)value;
    return at;
}

static inline unsigned char *
rls_copy(unsigned char *at, const void *from, size_t size)
{
    memcpy(at, from, size);
    return at + size;
}

/* A number in decimal digits. */
static inline unsigned char *
rls_digits(unsigned char *at, u64 value)
{
    unsigned char digits[20], *first = digits + sizeof digits;
    do
        *--first = (unsigned char)('0' + value % 10);
    while (value /= 10);
    return rls_copy(at, first, (size_t)(digits + sizeof digits - first));
}

enum { TOLD_LIMIT, TOLD_POLICIES, TOLD_NAME, TOLD_METADATA, TOLD_PARTS };

/* What an answer says of one descriptor. */
typedef struct {
    PyObject *parts[TOLD_PARTS]; /* of what `rls_told` returns */
    size_t sizes[TOLD_PARTS], tail_size;
    unsigned char tail[48]; /* the end of its status: what is left, and `reset` */
    i64 left, reset; /* reset: when it is full again, or when a refused request may pass; -1: never */
    double share; /* of the capacity that is left */
} RlsStatus;

/* -1: an error. */
static int
rls_status(const Decision *d, PyObject *told, RlsStatus *s)
{
    for (int i = 0; i < TOLD_PARTS; i++) {
        s->parts[i] = PyTuple_GetItem(told, i);
        Py_ssize_t size = s->parts[i] == NULL ? -1 : PyBytes_Size(s->parts[i]);
        if (size < 0)
            return -1;
        s->sizes[i] = (size_t)size;
    }
    s->left = d->rule->kind == TOKENS ? tokens_left(d->rule, level_left(d))
                                      : d->left.counts.remaining;
    s->reset = is_allowed(d) ? reset_of_decision(d) : d->retry_after;
    s->share = d->rule->most ? (double)s->left / (double)d->rule->most : 2;
    unsigned char *end = s->tail, span[24], *span_end = span;
    if (s->left > 0)
        *end++ = 0x18, end = rls_put(end, s->left > UINT32_MAX ? UINT32_MAX : (u64)s->left);
    if (s->reset >= 0) {
        if (s->reset >= 1000000000)
            *span_end++ = 0x08, span_end = rls_put(span_end, (u64)s->reset / 1000000000);
        if (s->reset % 1000000000)
            *span_end++ = 0x10, span_end = rls_put(span_end, (u64)s->reset % 1000000000);
        *end++ = 0x22;
        end = rls_put(end, (u64)(span_end - span));
        end = rls_copy(end, span, (size_t)(span_end - span));
    }
    s->tail_size = (size_t)(end - s->tail);
    return 0;
}

/* Nanoseconds as whole seconds, rounded up. */
static inline u64
rls_seconds(i64 span)
{
    return (u64)(span / 1000000000 + !!(span % 1000000000));
}

static inline unsigned char *
rls_part(unsigned char *at, const RlsStatus *s, int part)
{
    return rls_copy(at, PyBytes_AsString(s->parts[part]), s->sizes[part]);
}

/* The status of a descriptor: at most 16 bytes, what is told of its limit, and its end. */
static unsigned char *
rls_put_status(unsigned char *at, const RlsStatus *s, const char *code)
{
    *at++ = 0x12;
    at = rls_put(at, 2 + s->sizes[TOLD_LIMIT] + s->tail_size);
    at = rls_part(rls_copy(at, code, 2), s, TOLD_LIMIT);
    return rls_copy(at, s->tail, s->tail_size);
}

/* The header with what is left of a limit: at most 96 bytes and its name. */
static unsigned char *
rls_state(unsigned char *at, const RlsStatus *s)
{
    unsigned char state[64], *end = rls_digits(rls_copy(state, "\";r=", 4), (u64)s->left);
    if (s->reset >= 0)
        end = rls_digits(rls_copy(end, ";t=", 3), rls_seconds(s->reset));
    size_t size = (size_t)(end - state), value = 1 + s->sizes[TOLD_NAME] + size;
    unsigned char head[24], *head_end = rls_copy(head, "\x0a\x09ratelimit\x12", 12);
    head_end = rls_put(head_end, value);
    *at++ = 0x1a;
    at = rls_put(at, (size_t)(head_end - head) + value);
    at = rls_copy(at, head, (size_t)(head_end - head));
    *at++ = '"';
    at = rls_part(at, s, TOLD_NAME);
    return rls_copy(at, state, size);
}

/* The header with the seconds after which a refused request may pass: at most 40 bytes. */
static unsigned char *
rls_retry_after(unsigned char *at, i64 span)
{
    unsigned char digits[20], *end = rls_digits(digits, rls_seconds(span));
    size_t size = (size_t)(end - digits);
    at = rls_copy(at, "\x1a", 1);
    at = rls_put(at, 15 + size);
    at = rls_copy(at, "\x0a\x0bretry-after\x12", 14);
    return rls_copy(rls_put(at, size), digits, size);
}

/* The answer to a request whose descriptors were all allowed, or whose only one was refused; its
   headers are about the limit with the smallest share left. */
static PyObject *
rls_written(const RlsStatus *all, int count, int refused)
{
    const RlsStatus *told = all;
    const char *code = refused ? "\x08\x02" : "\x08\x01";
    size_t most = 8;
    for (const RlsStatus *s = all; s < all + count; s++) {
        most += 16 + s->sizes[TOLD_LIMIT] + s->tail_size;
        if (s->share < told->share)
            told = s;
    }
    most += 40 + told->sizes[TOLD_POLICIES] + 96 + told->sizes[TOLD_NAME] +
            told->sizes[TOLD_METADATA];
    unsigned char usual[1024], *begin = most <= sizeof usual ? usual : PyMem_Malloc(most);
    if (begin == NULL)
        return PyErr_NoMemory();
    unsigned char *at = rls_copy(begin, code, 2);
    for (const RlsStatus *s = all; s < all + count; s++)
        at = rls_put_status(at, s, code);
    if (refused && told->reset > 0)
        at = rls_retry_after(at, told->reset);
    at = rls_part(at, told, TOLD_POLICIES);
    if (told->sizes[TOLD_NAME])
        at = rls_state(at, told);
    at = rls_part(at, told, TOLD_METADATA); /* of a refusal */
    PyObject *answer = PyBytes_FromStringAndSize((char *)begin, at - begin);
    if (begin != usual)
        PyMem_Free(begin);
    return answer;
}

#endif
