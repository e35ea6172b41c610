/* Answers of Envoy's Rate Limit Service, as bytes: those to requests that were allowed. */
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

/* What an answer says of one descriptor that was allowed. */
typedef struct {
    PyObject *parts[3]; /* of what `rls_told` returns */
    size_t sizes[3], tail_size;
    unsigned char tail[48]; /* the end of its status: what is left, and when it is full again */
    i64 left, reset;
    double share; /* of the capacity that is left */
} RlsStatus;

/* -1: an error. */
static int
rls_status(const Decision *d, PyObject *told, RlsStatus *s)
{
    for (int i = 0; i < 3; i++) {
        s->parts[i] = PyTuple_GetItem(told, i);
        Py_ssize_t size = s->parts[i] == NULL ? -1 : PyBytes_Size(s->parts[i]);
        if (size < 0)
            return -1;
        s->sizes[i] = (size_t)size;
    }
    s->left = d->rule->kind == TOKENS ? tokens_left(d->rule, level_left(d))
                                      : d->left.counts.remaining;
    s->reset = reset_of_decision(d);
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

/* The header with what is left of a limit: at most 96 bytes and its name. */
static unsigned char *
rls_state(unsigned char *at, const RlsStatus *s)
{
    unsigned char state[64], *end = rls_digits(rls_copy(state, "\";r=", 4), (u64)s->left);
    if (s->reset >= 0)
        end = rls_digits(rls_copy(end, ";t=", 3),
                         (u64)(s->reset / 1000000000 + !!(s->reset % 1000000000)));
    size_t size = (size_t)(end - state), value = 1 + s->sizes[2] + size;
    unsigned char head[24], *head_end = rls_copy(head, "\x0a\x09ratelimit\x12", 12);
    head_end = rls_put(head_end, value);
    *at++ = 0x1a;
    at = rls_put(at, (size_t)(head_end - head) + value);
    at = rls_copy(at, head, (size_t)(head_end - head));
    *at++ = '"';
    at = rls_copy(at, PyBytes_AsString(s->parts[2]), s->sizes[2]);
    return rls_copy(at, state, size);
}

/* The answer to a request whose descriptors were all allowed; its headers are about the limit with
   the smallest share left. */
static PyObject *
rls_allowed(const RlsStatus *all, int count)
{
    const RlsStatus *told = all;
    size_t most = 8;
    for (const RlsStatus *s = all; s < all + count; s++) {
        most += 16 + s->sizes[0] + s->tail_size;
        if (s->share < told->share)
            told = s;
    }
    most += told->sizes[1] + 96 + told->sizes[2];
    unsigned char usual[1024], *begin = most <= sizeof usual ? usual : PyMem_Malloc(most);
    if (begin == NULL)
        return PyErr_NoMemory();
    unsigned char *at = rls_copy(begin, "\x08\x01", 2);
    for (const RlsStatus *s = all; s < all + count; s++) {
        *at++ = 0x12;
        at = rls_put(at, 2 + s->sizes[0] + s->tail_size);
        at = rls_copy(at, "\x08\x01", 2);
        at = rls_copy(at, PyBytes_AsString(s->parts[0]), s->sizes[0]);
        at = rls_copy(at, s->tail, s->tail_size);
    }
    at = rls_copy(at, PyBytes_AsString(told->parts[1]), told->sizes[1]);
    if (told->sizes[2])
        at = rls_state(at, told);
    PyObject *answer = PyBytes_FromStringAndSize((char *)begin, at - begin);
    if (begin != usual)
        PyMem_Free(begin);
    return answer;
}

#endif
