#include "json.h"

#include <stdlib.h>

// The next byte that means something, or 0 at the end. Colons and commas say nothing that their place does not.
static uint8_t next(struct json *json) {
    for (; json->at < json->end; json->at++) {
        switch (*json->at) {
        case ' ': case '\t': case '\n': case '\r': case ':': case ',':
            break;
        default:
            return *json->at;
        }
    }
    return 0;
}

static uint32_t hex(struct json *json) {
    uint32_t value = 0;
    for (int digit = 0; digit < 4 && json->at < json->end; digit++) {
        uint8_t byte = *json->at++;
        value = value << 4 | (uint32_t)(byte <= '9' ? byte - '0' : (byte | 0x20) - 'a' + 10);
    }
    return value & 0xffff;
}

// What `\u` stands for; two of them for what is beyond U+FFFF. A half of such a pair alone is U+FFFD.
static uint32_t code_point(struct json *json) {
    uint32_t first = hex(json);
    if (first < 0xd800 || first > 0xdfff) {
        return first;
    }
    if (first <= 0xdbff && json->end - json->at >= 6 && json->at[0] == '\\' && json->at[1] == 'u') {
        struct json after = {json->at + 2, json->end};
        uint32_t second = hex(&after);
        if (second >= 0xdc00 && second <= 0xdfff) {
            *json = after;
            return 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        }
    }
    return 0xfffd;
}

static uint8_t *put(uint8_t *out, uint32_t point) {
    if (point < 0x80) {
        *out++ = (uint8_t)point;
        return out;
    }
    int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    *out++ = (uint8_t)(lead[more] | point >> 6 * more);
    while (more-- > 0) {
        *out++ = (uint8_t)(0x80 | (point >> 6 * more & 0x3f));
    }
    return out;
}

static uint8_t *put_escaped(uint8_t *out, struct json *json) {
    uint8_t byte = *json->at++;
    switch (byte) {
    case 'b': byte = '\b'; break;
    case 'f': byte = '\f'; break;
    case 'n': byte = '\n'; break;
    case 'r': byte = '\r'; break;
    case 't': byte = '\t'; break;
    case 'u': return put(out, code_point(json));
    }
    *out++ = byte;
    return out;
}

// Reads the string that comes next, and only counts it off where `text` is null.
static void string(struct json *json, struct json_text *text) {
    const uint8_t *start = ++json->at;
    while (json->at < json->end && *json->at != '"') {
        json->at += *json->at == '\\' && json->end - json->at > 1 ? 2 : 1;
    }
    struct json inside = {start, json->at};
    if (json->at < json->end) {
        json->at++;
    }
    if (text == NULL) {
        return;
    }
    *text = (struct json_text){NULL, 0};
    if (inside.at == inside.end) {
        return;
    }
    // No escape is shorter than what it stands for.
    uint8_t *out = text->ptr = malloc((size_t)(inside.end - inside.at));
    if (out == NULL) {
        abort();
    }
    while (inside.at < inside.end) {
        uint8_t byte = *inside.at++;
        if (byte == '\\' && inside.at < inside.end) {
            out = put_escaped(out, &inside);
        } else {
            *out++ = byte;
        }
    }
    text->len = (size_t)(out - text->ptr);
}

// Leaves out one value with all that it holds.
static void leave_out(struct json *json) {
    size_t depth = 0;
    do {
        switch (next(json)) {
        case 0:
            return;
        case '"':
            string(json, NULL);
            break;
        case '{': case '[':
            depth++;
            json->at++;
            break;
        case '}': case ']':
            if (depth == 0) {
                return;
            }
            depth--;
            json->at++;
            break;
        default: // a number, or a word
            while (json->at < json->end && *json->at > ' ' && *json->at != ',' && *json->at != ']' && *json->at != '}') {
                json->at++;
            }
        }
    } while (depth > 0);
}

bool json_object(struct json *json) {
    if (next(json) != '{') {
        return false;
    }
    json->at++;
    return true;
}

bool json_key(struct json *json, struct json_text *key) {
    if (next(json) != '"') {
        return false;
    }
    string(json, key);
    return true;
}

bool json_string(struct json *json, struct json_text *text) {
    if (next(json) != '"') {
        leave_out(json);
        return false;
    }
    string(json, text);
    return true;
}
