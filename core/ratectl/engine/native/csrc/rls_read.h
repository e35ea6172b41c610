/* Requests of Envoy's Rate Limit Service, from bytes: the fields of sidecar/rls.proto that usual
   requests have. */
#ifndef RATECTL_RLS_READ_H
#define RATECTL_RLS_READ_H

#include "base.h"

#define MOST_RLS_ENTRIES 32
#define MOST_RLS_DESCRIPTORS 8

typedef struct { const unsigned char *at, *end; } Bytes;

typedef struct {
    int first, entries, own_hits; /* own_hits: the descriptor names its hits */
    u64 hits;
} RlsDescriptor;

typedef struct {
    Bytes domain, keys[MOST_RLS_ENTRIES], values[MOST_RLS_ENTRIES];
    RlsDescriptor descriptors[MOST_RLS_DESCRIPTORS];
    int entries, count; /* of all descriptors, and of descriptors */
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
    if (r->count == MOST_RLS_DESCRIPTORS)
        return 0;
    RlsDescriptor *d = &r->descriptors[r->count++];
    *d = (RlsDescriptor){.first = r->entries};
    while (in.at < in.end) {
        if (!rls_field(&in, &field, &number, &content) || content.at == NULL)
            return 0;
        if (field == 1) {
            if (!rls_entry(content, r))
                return 0;
            d->entries++;
        } else if (field == 3 && !d->own_hits) {
            d->own_hits = 1;
            if (content.at < content.end &&
                (!rls_field(&content, &field, &d->hits, &none) || field != 1 || none.at != NULL ||
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
    r->entries = r->count = 0;
    r->domain = (Bytes){NULL, NULL};
    while (in.at < in.end) {
        if (!rls_field(&in, &field, &number, &content))
            return 0;
        if (field == 1 && content.at != NULL)
            r->domain = content;
        else if (field == 2 && content.at != NULL) {
            if (!rls_descriptor(content, r))
                return 0;
        } else if (field == 3 && content.at == NULL)
            hits = (uint32_t)number;
        else
            return 0;
    }
    for (RlsDescriptor *d = r->descriptors; d < r->descriptors + r->count; d++) {
        if (!d->own_hits)
            d->hits = hits ? hits : 1;
        if (d->hits > (u64)MOST_COUNT)
            return 0;
    }
    return r->count && r->domain.at < r->domain.end;
}

#endif
