/* A WebSocket server that does as little as it can, so that only its clients are measured.
 *
 * The path of the request says what it does after the upgrade:
 *
 *   /blast?size=S&count=N[&binary=1]   wait for a message, then send N of S bytes, and a Close
 *   /phoenix?count=N                   wait for a join, answer it, then send N broadcasts and "done"
 *   /fleet?topics=T&clients=C&count=N  answer T joins, wait until C clients are so far, and a moment;
 *                                      then send N broadcasts in turn to all topics, and "done"
 *   /count                             count what comes, and answer "?" with the number
 *   /echo                              send everything back; what came together goes together
 *
 * One thread for each connection, blocking. It prints its port, and ends when its stdin does. It
 * trusts its clients: frames are not checked, and fragments are messages.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum { READ_BYTES = 256 * 1024, BLOCK_BYTES = 256 * 1024 };

typedef struct {
    unsigned char *data;
    size_t size, room;
} Buffer;

typedef struct {
    int socket;
    char path[512];
    Buffer in, out;
    size_t at; /* what of `in` has been dealt with */
    uint64_t counted;
    int closing;
} Connection;

static void reserve(Buffer *buffer, size_t more) {
    if (buffer->size + more <= buffer->room) return;
    buffer->room = (buffer->size + more) * 2;
    buffer->data = realloc(buffer->data, buffer->room);
    if (!buffer->data) abort();
}

static void append(Buffer *buffer, const void *data, size_t size) {
    reserve(buffer, size);
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

static void append_frame(Buffer *buffer, int opcode, const void *payload, uint64_t size) {
    unsigned char head[10] = {(unsigned char)(0x80 | opcode)};
    int bytes = size < 126 ? 0 : size < 65536 ? 2 : 8;
    head[1] = (unsigned char)(bytes == 0 ? size : bytes == 2 ? 126 : 127);
    for (int i = 0; i < bytes; i++) head[2 + i] = (unsigned char)(size >> 8 * (bytes - 1 - i));
    append(buffer, head, 2 + (size_t)bytes);
    append(buffer, payload, size);
}

static int send_all(int socket, const unsigned char *data, size_t size) {
    while (size) {
        ssize_t sent = write(socket, data, size);
        if (sent <= 0) return 0;
        data += sent;
        size -= (size_t)sent;
    }
    return 1;
}

static int flush_out(Connection *c) {
    int sent = send_all(c->socket, c->out.data, c->out.size);
    c->out.size = 0;
    return sent;
}

/* Read once; what has been dealt with makes room. */
static int fill(Connection *c) {
    if (c->at) memmove(c->in.data, c->in.data + c->at, c->in.size - c->at);
    c->in.size -= c->at;
    c->at = 0;
    reserve(&c->in, READ_BYTES);
    ssize_t got = read(c->socket, c->in.data + c->in.size, READ_BYTES);
    if (got <= 0) return 0;
    c->in.size += (size_t)got;
    return 1;
}

/* ---- The upgrade: SHA-1 and base64 of the key (RFC 6455, 1.3) ---- */

static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1_block(uint32_t h[5], const unsigned char *block) {
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5A827999
                     : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                     : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                              : (b ^ c ^ d) + 0xCA62C1D6;
        uint32_t next = rotate(a, 5) + f + e + w[i];
        e = d, d = c, c = rotate(b, 30), b = a, a = next;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

/* A key and the RFC's GUID are 60 bytes, which with their padding are always two blocks. */
static void accept_for(const char *key, char *base64) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char blocks[128] = {0}, digest[21] = {0};
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    memcpy(blocks, key, 24);
    memcpy(blocks + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    blocks[60] = 0x80;
    blocks[126] = (60 * 8) >> 8, blocks[127] = (60 * 8) & 0xFF;
    sha1_block(h, blocks);
    sha1_block(h, blocks + 64);
    for (int i = 0; i < 20; i++) digest[i] = (unsigned char)(h[i / 4] >> 8 * (3 - i % 4));
    for (int i = 0; i < 7; i++) {
        uint32_t three = (uint32_t)digest[3 * i] << 16 | (uint32_t)digest[3 * i + 1] << 8 | digest[3 * i + 2];
        for (int j = 0; j < 4; j++) base64[4 * i + j] = digits[three >> 6 * (3 - j) & 63];
    }
    base64[27] = '=';
    base64[28] = 0;
}

static const char *find_key(const char *head) {
    static const char name[] = "sec-websocket-key:";
    for (; *head; head++)
        if (!strncasecmp(head, name, sizeof name - 1)) {
            head += sizeof name - 1;
            return head + strspn(head, " \t");
        }
    return NULL;
}

static int upgrade(Connection *c) {
    char answer[256], accept[32];
    char *end = NULL;
    while (!end) {
        if (!fill(c)) return 0;
        append(&c->in, "", 1); /* a string ends with a zero */
        c->in.size--;
        end = strstr((char *)c->in.data, "\r\n\r\n");
    }
    const char *key = find_key((char *)c->in.data);
    if (!key || strlen(key) < 24 || sscanf((char *)c->in.data, "GET %511s", c->path) != 1) return 0;
    accept_for(key, accept);
    snprintf(answer, sizeof answer,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    c->at = (size_t)(end + 4 - (char *)c->in.data);
    return send_all(c->socket, (unsigned char *)answer, strlen(answer));
}

/* ---- What it does ---- */

static uint64_t number_in(const char *path, const char *name) {
    const char *found = strstr(path, name);
    return found ? strtoull(found + strlen(name), NULL, 10) : 0;
}

static int is_at(const Connection *c, const char *path) {
    return !strncmp(c->path, path, strlen(path));
}

/* Send `count` frames of the same payload, as many at a time as make a block. */
static int blast(Connection *c, int opcode, const void *payload, uint64_t size, uint64_t count) {
    Buffer block = {0};
    uint64_t frames = BLOCK_BYTES / (size + 10) + 1;
    int sent = flush_out(c);
    if (frames > count) frames = count;
    for (uint64_t i = 0; i < frames; i++) append_frame(&block, opcode, payload, size);
    size_t one = frames ? block.size / frames : 0;
    while (sent && count) {
        if (frames > count) frames = count;
        sent = send_all(c->socket, block.data, one * frames);
        count -= frames;
    }
    free(block.data);
    return sent;
}

static int send_blast(Connection *c) {
    uint64_t size = number_in(c->path, "size="), count = number_in(c->path, "count=");
    char *payload = malloc(size ? size : 1);
    if (!payload) abort();
    memset(payload, 'x', size);
    int sent = blast(c, number_in(c->path, "binary=") ? BINARY : TEXT, payload, size, count);
    free(payload);
    append_frame(&c->out, CLOSE, "\x03\xe8", 2); /* 1000 */
    c->closing = 1;
    return sent;
}

static int send_phoenix(Connection *c) {
    static const char joined[] = "[\"1\",\"1\",\"bench:1\",\"phx_reply\",{\"response\":{},\"status\":\"ok\"}]";
    static const char tick[] =
        "[null,null,\"bench:1\",\"tick\",{\"n\":12345,\"user\":\"someone\",\"body\":\"xxxxxxxxxxxxxxxxxxxx"
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\",\"at\":1700000000.5}]";
    static const char done[] = "[null,null,\"bench:1\",\"done\",{}]";
    append_frame(&c->out, TEXT, joined, sizeof joined - 1);
    int sent = blast(c, TEXT, tick, sizeof tick - 1, number_in(c->path, "count="));
    append_frame(&c->out, TEXT, done, sizeof done - 1);
    return sent;
}

static int send_fleet(Connection *c) {
    static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
    static uint64_t ready = 0;
    uint64_t topics = number_in(c->path, "topics="), clients = number_in(c->path, "clients=");
    uint64_t count = number_in(c->path, "count="), frames = topics;
    Buffer block = {0};
    char text[256];
    while (frames * 150 < BLOCK_BYTES) frames += topics;
    if (frames > count) frames = count;
    for (uint64_t i = 0; i < frames; i++) {
        int size = snprintf(text, sizeof text,
            "[null,null,\"bench:%llu\",\"tick\",{\"n\":12345,\"user\":\"someone\",\"body\":\"xxxxxxxxxxxxxxxxxxxx"
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\",\"at\":1700000000.5}]",
            (unsigned long long)(i % topics));
        append_frame(&block, TEXT, text, (uint64_t)size);
    }
    int sent = flush_out(c);
    pthread_mutex_lock(&gate);
    if (++ready >= clients) pthread_cond_broadcast(&opened);
    while (ready < clients) pthread_cond_wait(&opened, &gate);
    pthread_mutex_unlock(&gate);
    usleep(500000);
    for (; sent && count >= frames; count -= frames) sent = send_all(c->socket, block.data, block.size);
    free(block.data);
    append_frame(&c->out, TEXT, "[null,null,\"bench:0\",\"done\",{}]", 31);
    return sent;
}

static int answer_join(Connection *c, const unsigned char *payload, uint64_t size) {
    static const char join[] = "\"phx_join\"";
    static const char ok[] = "\"phx_reply\",{\"response\":{},\"status\":\"ok\"}]";
    const unsigned char *event = memmem(payload, size, join, sizeof join - 1);
    if (!event) return 1;
    Buffer reply = {0};
    append(&reply, payload, (size_t)(event - payload));
    append(&reply, ok, sizeof ok - 1);
    append_frame(&c->out, TEXT, reply.data, reply.size);
    free(reply.data);
    return ++c->counted == number_in(c->path, "topics=") ? send_fleet(c) : 1;
}

static int take_message(Connection *c, int opcode, unsigned char *payload, uint64_t size) {
    if (is_at(c, "/echo")) {
        append_frame(&c->out, opcode, payload, size);
    } else if (is_at(c, "/fleet")) {
        return answer_join(c, payload, size);
    } else if (!is_at(c, "/count")) {
        if (c->counted++ == 0) return is_at(c, "/blast") ? send_blast(c) : send_phoenix(c);
    } else if (size == 1 && *payload == '?') {
        char text[24];
        int digits = snprintf(text, sizeof text, "%llu", (unsigned long long)c->counted);
        append_frame(&c->out, TEXT, text, (uint64_t)digits);
    } else {
        c->counted++;
    }
    return 1;
}

/* Deal with one frame. Tell 1 for done, 0 for "there is none, whole", -1 for the end. */
static int step(Connection *c) {
    unsigned char *data = c->in.data + c->at;
    size_t there = c->in.size - c->at;
    if (there < 2) return 0;
    uint64_t size = data[1] & 0x7F;
    size_t bytes = size == 126 ? 2 : size == 127 ? 8 : 0, head = 2 + bytes + 4;
    if (there < head) return 0;
    if (bytes) size = 0;
    for (size_t i = 0; i < bytes; i++) size = size << 8 | data[2 + i];
    if (there < head + size) return 0;
    unsigned char *key = data + head - 4, *payload = data + head;
    for (uint64_t i = 0; i < size; i++) payload[i] ^= key[i & 3];
    c->at += head + size;
    switch (data[0] & 0x0F) {
    case CLOSE:
        if (!c->closing) append_frame(&c->out, CLOSE, payload, size);
        flush_out(c);
        return -1;
    case PING:
        append_frame(&c->out, PONG, payload, size);
        return 1;
    case PONG:
        return 1;
    default:
        return take_message(c, data[0] & 0x0F, payload, size) ? 1 : -1;
    }
}

static void *serve(void *argument) {
    Connection *c = argument;
    int going = upgrade(c);
    while (going > 0) {
        while ((going = step(c)) > 0) continue;
        if (going == 0) going = flush_out(c) && fill(c);
    }
    close(c->socket);
    free(c->in.data);
    free(c->out.data);
    free(c);
    return NULL;
}

static void *watch_stdin(void *unused) {
    char byte;
    while (read(0, &byte, 1) > 0) continue;
    exit(0);
    return unused;
}

int main(void) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof where;
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    pthread_attr_t detached;
    pthread_t thread;
    signal(SIGPIPE, SIG_IGN);
    if (bind(listener, (struct sockaddr *)&where, size) || listen(listener, 1024) ||
        getsockname(listener, (struct sockaddr *)&where, &size))
        return 1;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&detached, 256 * 1024);
    pthread_create(&thread, &detached, watch_stdin, NULL);
    printf("%d\n", ntohs(where.sin_port));
    fflush(stdout);
    for (;;) {
        Connection *c = calloc(1, sizeof *c);
        if (!c) return 1;
        c->socket = accept(listener, NULL, NULL);
        if (c->socket < 0) {
            free(c);
            continue;
        }
        setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (pthread_create(&thread, &detached, serve, c)) return 1;
    }
}
