/* Requests of Envoy's Rate Limit Service, from bytes to bytes: the usual ones. For all others it
   answers nothing, and sidecar/service.py does. The messages are those of sidecar/rls.proto. */
#ifndef RATECTL_RLS_H
#define RATECTL_RLS_H

#include "check.h"

#define MOST_RLS_ENTRIES 16

enum { NODE_SCOPE, NODE_UNIT, NODE_BELOW, NODE_IS_END };   /* a node of a domain's plan */
enum { PLAN_ROOT, PLAN_NAMES, PLAN_PASSES };               /* a domain's plan */

typedef struct { const unsigned char *at, *end; } Bytes;

/* A request with one descriptor. */
typedef struct {
    Bytes domain, keys[MOST_RLS_ENTRIES], values[MOST_RLS_ENTRIES];
    int entries, descriptors, own_hits; /* own_hits: the descriptor names its hits */
    u64 hits;
} RlsRequest;

/* A number of so many bytes at most. 0 if there is none. */
static inline int
rls_varint(Bytes *in, u64 *value, int most)
{
    if (likely(in->at < in->end && *in->at < 0x80)) {
        *value = *in->at++;
        return 1;
    }
    *value = 0;
    for (int shift = 0; shift < 7 * most && in->at < in->end; shift += 7) {
        unsigned char byte = *in->at++;
        *value |= (u64)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return 1;
    }
    return 0;
}

/* The next field: a number, or bytes. 0 for anything else. */
static inline int
rls_field(Bytes *in, int *field, u64 *number, Bytes *content)
{
    u64 tag;
    if (!rls_varint(in, &tag, 5) || tag >> 3 == 0 || tag >> 3 > 15)
        return 0;
    *field = (int)(tag >> 3);
    *content = (Bytes){NULL, NULL};
    if (!rls_varint(in, number, (tag & 7) == 2 ? 5 : 9))
        return 0;
    if ((tag & 7) == 0)
        return 1;
    if ((tag & 7) != 2 || *number > (u64)(in->end - in->at))
        return 0;
    *content = (Bytes){in->at, in->at + *number};
    in->at += *number;
    return 1;
}

static int
rls_entry(Bytes in, RlsRequest *r)
{
    int field;
    u64 number;
    Bytes content, *key = &r->keys[r->entries], *value = &r->values[r->entries];
    if (r->entries == MOST_RLS_ENTRIES)
        return 0;
    *key = *value = (Bytes){in.at, in.at};
    r->entries++;
    while (in.at < in.end) {
        if (!rls_field(&in, &field, &number, &content) || content.at == NULL || field > 2)
            return 0;
        *(field == 1 ? key : value) = content;
    }
    return 1;
}

static int
rls_descriptor(Bytes in, RlsRequest *r)
{
    int field;
    u64 number;
    Bytes content, none;
    while (in.at < in.end) {
        if (!rls_field(&in, &field, &number, &content) || content.at == NULL)
            return 0;
        if (field == 1) {
            if (!rls_entry(content, r))
                return 0;
        } else if (field == 3 && !r->own_hits) {
            r->own_hits = 1;
            r->hits = 0;
            if (content.at < content.end &&
                (!rls_field(&content, &field, &r->hits, &none) || field != 1 || none.at != NULL ||
                 content.at < content.end))
                return 0;
        } else {
            return 0;
        }
    }
    return 1;
}

/* 0: Python has to read it. */
static int
rls_read(Bytes in, RlsRequest *r)
{
    int field;
    u64 number, hits = 0;
    Bytes content;
    while (in.at < in.end) {
        if (!rls_field(&in, &field, &number, &content))
            return 0;
        if (field == 1 && content.at != NULL)
            r->domain = content;
        else if (field == 2 && content.at != NULL && !r->descriptors++) {
            if (!rls_descriptor(content, r))
                return 0;
        } else if (field == 3 && content.at == NULL)
            hits = (uint32_t)number;
        else
            return 0;
    }
    if (!r->own_hits)
        r->hits = hits ? hits : 1;
    return r->descriptors == 1 && r->domain.at < r->domain.end && r->hits <= (u64)MOST_COUNT;
}

/* A text that Python has made for these bytes before, borrowed; NULL: none, or an error. */
static inline PyObject *
rls_known(PyObject *known, Bytes bytes)
{
    PyObject *name = PyBytes_FromStringAndSize((const char *)bytes.at, bytes.end - bytes.at);
    PyObject *text = name == NULL ? NULL : PyDict_GetItemWithError(known, name);
    Py_XDECREF(name);
    return text;
}

/* The item of a tuple, borrowed. NULL: an error. */
static inline PyObject *
rls_item(PyObject *tuple, int index)
{
    return tuple == NULL ? NULL : PyTuple_GetItem(tuple, index);
}

/* The node of a domain's plan that a descriptor leads to, borrowed. NULL: Python has to look, or an
   error. `all`: descriptors that lead to no end pass, which Python has to say. */
static PyObject *
rls_node(const RlsRequest *r, PyObject *node, int all)
{
    int i = 0;
    PyObject *below = rls_item(node, NODE_BELOW);
    for (; i < r->entries && below != NULL && below != Py_None; i++) {
        PyObject *place = rls_known(below, r->keys[i]);
        if (place == NULL)
            break;
        PyObject *values = rls_item(place, 0);
        PyObject *next = values == NULL ? NULL : rls_known(values, r->values[i]);
        if (next == NULL && !PyErr_Occurred())
            next = rls_item(place, 1);
        if (next == NULL || next == Py_False)
            return NULL; /* False: a value may begin as the file says */
        if (next == Py_None)
            break;
        node = next;
        below = rls_item(node, NODE_BELOW);
    }
    if (below != Py_None && PyErr_Occurred())
        return NULL;
    return all && (i < r->entries || rls_item(node, NODE_IS_END) != Py_True) ? NULL : node;
}

/* A cost of so many hits in a unit; None: requests. A new reference. */
static PyObject *
rls_cost(PyObject *unit, u64 hits)
{
    PyObject *count = PyLong_FromUnsignedLongLong(hits), *cost;
    if (unit == Py_None || hits == 0 || count == NULL)
        return count;
    if ((cost = PyDict_New()) != NULL && (PyDict_SetItem(cost, text_requests, one) < 0 ||
                                          PyDict_SetItem(cost, unit, count) < 0))
        Py_CLEAR(cost);
    Py_DECREF(count);
    return cost;
}

/* A new dict; NULL: Python has to make it, or an error. */
static PyObject *
rls_attributes(const RlsRequest *r, PyObject *names)
{
    PyObject *found = PyDict_New();
    for (int i = 0; found != NULL && i < r->entries; i++) {
        PyObject *name = rls_known(names, r->keys[i]);
        PyObject *value = name == NULL ? NULL
            : PyUnicode_DecodeUTF8((const char *)r->values[i].at,
                                   r->values[i].end - r->values[i].at, "surrogateescape");
        if (value == NULL || PyDict_SetItem(found, name, value) < 0 ||
            PyDict_Size(found) != i + 1) /* a key that repeats */
            Py_CLEAR(found);
        Py_XDECREF(value);
    }
    return found;
}

/* Writing --------------------------------------------------------------------------------------- */

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

/* What an answer says of the decisive limit: its message, the header with the policies, and its name
   in the other header. Borrowed. NULL: Python has to answer, or an error. */
static PyObject *
rls_told(Core *core, Decision *d, PyObject *scope, PyObject *attributes, PyObject *tell)
{
    Selection *s = d->selection;
    if (s == NULL || d->decisive < 0 || d->rule == NULL || s->swaps != core->swaps)
        return NULL;
    if (s->told == NULL && (s->told = PyMem_Calloc((size_t)s->count, sizeof *s->told)) == NULL)
        return NULL;
    if (s->told[d->decisive] == NULL) {
        PyObject *told = PyObject_CallFunctionObjArgs(tell, d, scope, attributes, NULL);
        PyObject *before = s->told[d->decisive]; /* Python may have decided another request */
        if (told != NULL && !PyTuple_Check(told))
            Py_CLEAR(told);
        s->told[d->decisive] = told;
        Py_XDECREF(before);
    }
    return s->told[d->decisive];
}

/* The answer to a request that was allowed. */
static PyObject *
rls_allowed(const Decision *d, PyObject *told)
{
    PyObject *parts[3];
    size_t sizes[3];
    for (int i = 0; i < 3; i++) {
        parts[i] = PyTuple_GetItem(told, i);
        Py_ssize_t size = parts[i] == NULL ? -1 : PyBytes_Size(parts[i]);
        if (size < 0)
            return NULL;
        sizes[i] = (size_t)size;
    }
    i64 left = d->rule->kind == TOKENS ? tokens_left(d->rule, level_left(d))
                                       : d->left.counts.remaining;
    i64 reset = reset_of_decision(d);
    unsigned char tail[48], *end = tail, span[24], *span_end = span;
    if (left > 0)
        *end++ = 0x18, end = rls_put(end, left > UINT32_MAX ? UINT32_MAX : (u64)left);
    if (reset >= 0) {
        if (reset >= 1000000000)
            *span_end++ = 0x08, span_end = rls_put(span_end, (u64)reset / 1000000000);
        if (reset % 1000000000)
            *span_end++ = 0x10, span_end = rls_put(span_end, (u64)reset % 1000000000);
        *end++ = 0x22;
        end = rls_put(end, (u64)(span_end - span));
        end = rls_copy(end, span, (size_t)(span_end - span));
    }
    unsigned char state[64], *state_end = rls_digits(rls_copy(state, "\";r=", 4), (u64)left);
    if (reset >= 0)
        state_end = rls_digits(rls_copy(state_end, ";t=", 3),
                               (u64)(reset / 1000000000 + !!(reset % 1000000000)));
    size_t state_size = (size_t)(state_end - state), value = 1 + sizes[2] + state_size;
    size_t most = 96 + sizes[0] + sizes[1] + (size_t)(end - tail) + value;
    unsigned char usual[1024], *begin = most <= sizeof usual ? usual : PyMem_Malloc(most), *at = begin;
    if (begin == NULL)
        return PyErr_NoMemory();
    at = rls_copy(at, "\x08\x01\x12", 3);
    at = rls_put(at, 2 + sizes[0] + (size_t)(end - tail));
    at = rls_copy(at, "\x08\x01", 2);
    at = rls_copy(at, PyBytes_AsString(parts[0]), sizes[0]);
    at = rls_copy(at, tail, (size_t)(end - tail));
    at = rls_copy(at, PyBytes_AsString(parts[1]), sizes[1]);
    if (sizes[2]) {
        unsigned char head[24], *head_end = rls_copy(head, "\x0a\x09ratelimit\x12", 12);
        head_end = rls_put(head_end, value);
        *at++ = 0x1a;
        at = rls_put(at, (size_t)(head_end - head) + value);
        at = rls_copy(at, head, (size_t)(head_end - head));
        *at++ = '"';
        at = rls_copy(at, PyBytes_AsString(parts[2]), sizes[2]);
        at = rls_copy(at, state, state_size);
    }
    PyObject *answer = PyBytes_FromStringAndSize((char *)begin, at - begin);
    if (begin != usual)
        PyMem_Free(begin);
    return answer;
}

/* rls(data, plans, tell) -> the answer's bytes; None: Python has to answer; or, after it has
   decided, (decision, scope, attributes, cost): Python has to write the answer. `plans` are those of
   the domains that are known (see sidecar/mapping.py); `tell`: see `rls_told`. */
static PyObject *
core_rls(Core *core, PyObject *const *args, Py_ssize_t nargs)
{
    char *data;
    Py_ssize_t size;
    RlsRequest r = {.entries = 0};
    if (nargs != 3 || !PyDict_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "rls() takes bytes, a dict and a function");
        return NULL;
    }
    if (PyBytes_AsStringAndSize(args[0], &data, &size) < 0)
        return NULL;
    Bytes in = {(unsigned char *)data, (unsigned char *)data + size};
    if (!rls_read(in, &r))
        Py_RETURN_NONE;
    PyObject *plan = Py_XNewRef(rls_known(args[1], r.domain)), *node = NULL;
    if (plan != NULL)
        node = rls_node(&r, rls_item(plan, PLAN_ROOT), rls_item(plan, PLAN_PASSES) == Py_True);
    PyObject *scope = node == NULL ? NULL : rls_item(node, NODE_SCOPE);
    PyObject *attributes = scope == NULL ? NULL : rls_attributes(&r, rls_item(plan, PLAN_NAMES));
    PyObject *cost = attributes == NULL ? NULL : rls_cost(rls_item(node, NODE_UNIT), r.hits);
    PyObject *answer = NULL;
    if (cost != NULL) {
        PyObject *decision = check(core, scope, attributes, cost, NULL);
        if (decision != NULL && TYPE(decision) == decision_type &&
            ((Decision *)decision)->reason == OK) {
            PyObject *told = Py_XNewRef(
                rls_told(core, (Decision *)decision, scope, attributes, args[2]));
            answer = told == NULL ? NULL : rls_allowed((Decision *)decision, told);
            Py_XDECREF(told);
        }
        if (answer == NULL && decision != NULL && !PyErr_Occurred())
            answer = Py_BuildValue("(OOOO)", decision, scope, attributes, cost);
        Py_XDECREF(decision);
    } else if (!PyErr_Occurred()) {
        answer = Py_NewRef(Py_None);
    }
    Py_XDECREF(cost);
    Py_XDECREF(attributes);
    Py_XDECREF(plan);
    return answer;
}

#endif
