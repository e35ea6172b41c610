/* What is used of libnghttp2, which is loaded when it is needed: ABI 14, from version 1.61 on.

   Distributions keep the library up to date; nothing of it has to be here to build this. Earlier
   versions lack bounds on resets and on CONTINUATION frames. Source: nghttp2.org, API reference. */
#ifndef RATECTL_NGHTTP2_H
#define RATECTL_NGHTTP2_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Session Session;
typedef struct Callbacks Callbacks;
typedef struct Options Options;

typedef struct { uint8_t *name, *value; size_t name_size, value_size; uint8_t flags; } Field;
typedef struct { size_t length; int32_t stream; uint8_t type, flags, reserved; } FrameHead;
typedef struct { FrameHead head; uint8_t data[8]; } Ping;
typedef struct { int32_t id; uint32_t value; } SettingsEntry;
typedef union { int fd; void *pointer; } Source;
typedef ptrdiff_t ReadData(Session *, int32_t stream, uint8_t *to, size_t room, uint32_t *flags,
                           Source *, void *user);
typedef struct { Source source; ReadData *read; } Provider;

enum { NO_COPY = 2 | 4 };               /* flags of a field: its name and its value stay */
enum { DATA = 0, HEADERS = 1, PING = 6 };       /* types of frames */
enum { END_STREAM = 1, ACK = 1 };               /* flags of frames */
enum { LAST_DATA = 1, TRAILERS_FOLLOW = 2 };    /* what `ReadData` may say */
enum { NO_MORE_NOW = -508, RESET_THIS_STREAM = -521, FAILED = -902 }; /* what callbacks may return */
enum { NO_MEMORY = -901 };                      /* what functions may return */
enum { PROTOCOL_ERROR = 1 };                    /* why a stream was closed */
enum { MAX_CONCURRENT_STREAMS = 3, MAX_HEADER_LIST_SIZE = 6, NO_RFC7540_PRIORITIES = 9 };

typedef int OnFrame(Session *, const FrameHead *, void *user);
typedef int OnHeader(Session *, const FrameHead *, const uint8_t *name, size_t name_size,
                     const uint8_t *value, size_t value_size, uint8_t flags, void *user);
typedef int OnChunk(Session *, uint8_t flags, int32_t stream, const uint8_t *data, size_t size,
                    void *user);
typedef int OnClose(Session *, int32_t stream, uint32_t error, void *user);

#define NGHTTP2_FUNCTIONS(F)                                                                        \
    F(int, session_callbacks_new, (Callbacks **))                                                   \
    F(void, session_callbacks_set_on_begin_headers_callback, (Callbacks *, OnFrame *))              \
    F(void, session_callbacks_set_on_header_callback, (Callbacks *, OnHeader *))                    \
    F(void, session_callbacks_set_on_data_chunk_recv_callback, (Callbacks *, OnChunk *))            \
    F(void, session_callbacks_set_on_frame_recv_callback, (Callbacks *, OnFrame *))                 \
    F(void, session_callbacks_set_on_stream_close_callback, (Callbacks *, OnClose *))               \
    F(int, option_new, (Options **))                                                                \
    F(void, option_set_stream_reset_rate_limit, (Options *, uint64_t burst, uint64_t rate))         \
    F(void, option_set_max_continuations, (Options *, size_t))                                      \
    F(int, session_server_new2, (Session **, const Callbacks *, void *user, const Options *))       \
    F(void, session_del, (Session *))                                                               \
    F(ptrdiff_t, session_mem_recv, (Session *, const uint8_t *, size_t))                            \
    F(ptrdiff_t, session_mem_send, (Session *, const uint8_t **))                                   \
    F(int, session_want_read, (Session *))                                                          \
    F(int, session_want_write, (Session *))                                                         \
    F(int, session_set_stream_user_data, (Session *, int32_t stream, void *))                       \
    F(void *, session_get_stream_user_data, (Session *, int32_t stream))                            \
    F(int, session_resume_data, (Session *, int32_t stream))                                        \
    F(int32_t, session_get_last_proc_stream_id, (Session *))                                        \
    F(int, submit_settings, (Session *, uint8_t flags, const SettingsEntry *, size_t))              \
    F(int, submit_response, (Session *, int32_t stream, const Field *, size_t, const Provider *))   \
    F(int, submit_trailer, (Session *, int32_t stream, const Field *, size_t))                      \
    F(int, submit_shutdown_notice, (Session *))                                                     \
    F(int, submit_ping, (Session *, uint8_t flags, const uint8_t *data))                            \
    F(int, submit_goaway, (Session *, uint8_t flags, int32_t last, uint32_t error,                  \
                           const uint8_t *data, size_t))

#define DECLARE(result, name, arguments) static result(*h2_##name) arguments;
NGHTTP2_FUNCTIONS(DECLARE)
#undef DECLARE

#ifdef __APPLE__
#define LIBRARY "libnghttp2.14.dylib"
#else
#define LIBRARY "libnghttp2.so.14"
#endif

/* Load the library; returns NULL, or what is missing. */
static const char *
load_nghttp2(void)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return LIBRARY;
#define LOAD(result, name, arguments)                                                               \
    if ((*(void **)&h2_##name = dlsym(library, "nghttp2_" #name)) == NULL)                          \
        return "nghttp2_" #name;
    NGHTTP2_FUNCTIONS(LOAD)
#undef LOAD
    return NULL;
}

#endif
