// A small reader of JSON. The host has checked what it hands over, so nothing is checked again here; a reader never goes
// beyond the end of its text, whatever stands in it.
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What is left to read.
struct json {
    const uint8_t *at;
    const uint8_t *end;
};

// UTF-8, without a zero at its end. Whoever got it frees `ptr`, which is null when `len` is 0.
struct json_text {
    uint8_t *ptr;
    size_t len;
};

// Goes into an object. `false`, with nothing read, when another value comes next.
bool json_object(struct json *json);

// The next key of the object that was gone into, after which its value is to be read; `false` after the last one.
bool json_key(struct json *json, struct json_text *key);

// Reads a value: a string into `text`. Another value is left out, for which it is `false`.
bool json_string(struct json *json, struct json_text *text);

#endif
