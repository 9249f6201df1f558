// Greets: a header for the upstream, one for the client, and an answer to `/greeting`.
//
// `greeter.h` is made of the contract and of `world.wit`. A function that may fail returns whether it did not. Who gets a
// string or a list owns it: what a function here is given or asks for it frees, what it returns is freed by the bindings,
// and so has to come from `malloc`.

#include <stdlib.h>
#include <string.h>

#include "greeter.h"
#include "json.h"

// The configuration, `[plugin.NAME] config`.
static struct {
    greeter_string_t greeting;
} config;

// The same as JSON Schema.
static const char SCHEMA[] =
    "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"type\":\"object\",\"properties\":{\"greeting\":"
    "{\"type\":\"string\",\"minLength\":1,\"default\":\"hello\",\"description\":\"The greeting.\"}},"
    "\"additionalProperties\":false}";

// A constant, to be handed to a function that only reads it.
#define TEXT(words) {(uint8_t *)(words), sizeof(words) - 1}

static void *allocate(size_t size) {
    void *memory = malloc(size);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static bool equal(const uint8_t *ptr, size_t len, const char *words) {
    return len == strlen(words) && memcmp(ptr, words, len) == 0;
}

// Puts a line into the log that has `first` and then `second` in it.
static void log_line(witgate_plugin_log_level_t level, const char *first, const greeter_string_t *second) {
    size_t len = strlen(first);
    greeter_string_t message = {allocate(len + second->len), len + second->len};
    memcpy(message.ptr, first, len);
    memcpy(message.ptr + len, second->ptr, second->len);
    witgate_plugin_log_log(level, &message);
    greeter_string_free(&message);
}

// --- lifecycle

typedef exports_witgate_plugin_lifecycle_list_config_error_t config_errors;

static void add_error(config_errors *errors, greeter_string_t path, const char *message) {
    errors->ptr = realloc(errors->ptr, (errors->len + 1) * sizeof *errors->ptr);
    if (errors->ptr == NULL) {
        abort();
    }
    errors->ptr[errors->len].path = path;
    greeter_string_dup(&errors->ptr[errors->len].message, message);
    errors->len++;
}

// Called once for each instance, before any hook. The errors are shown to the operator, at the line of each key.
bool exports_witgate_plugin_lifecycle_configure(greeter_string_t *table, config_errors *errors) {
    *errors = (config_errors){NULL, 0};
    greeter_string_dup(&config.greeting, "hello");

    struct json json = {table->ptr, table->ptr + table->len};
    struct json_text key, value;
    json_object(&json);
    while (json_key(&json, &key)) {
        bool text = json_string(&json, &value);
        greeter_string_t path = {key.ptr, key.len};
        if (!equal(key.ptr, key.len, "greeting")) {
            add_error(errors, path, "unknown key; there is `greeting`");
        } else if (!text || value.len == 0) {
            add_error(errors, path, "must be a string that is not empty");
        } else {
            greeter_string_free(&path);
            greeter_string_free(&config.greeting);
            config.greeting = (greeter_string_t){value.ptr, value.len};
            continue;
        }
        if (text) {
            free(value.ptr);
        }
    }
    greeter_string_free(table);
    return errors->len == 0;
}

void exports_witgate_plugin_lifecycle_config_schema(greeter_string_t *schema) {
    greeter_string_dup(schema, SCHEMA);
}

// --- the hooks

// Whether `/greeting` is asked for, with or without a query.
static bool asks_for_greeting(void) {
    greeter_string_t path;
    witgate_plugin_request_path_with_query(&path);
    const uint8_t *query = path.len > 0 ? memchr(path.ptr, '?', path.len) : NULL;
    bool asks = equal(path.ptr, query != NULL ? (size_t)(query - path.ptr) : path.len, "/greeting");
    greeter_string_free(&path);
    return asks;
}

static void answer(witgate_plugin_types_reply_t *reply) {
    reply->status = 200;

    witgate_plugin_types_header_t *header = allocate(sizeof *header);
    greeter_string_dup(&header->name, "content-type");
    greeter_string_t type;
    greeter_string_dup(&type, "text/plain; charset=utf-8");
    header->value = (greeter_list_u8_t){type.ptr, type.len};
    reply->headers.ptr = header;
    reply->headers.len = 1;

    size_t len = config.greeting.len;
    reply->body.tag = WITGATE_PLUGIN_TYPES_REPLY_BODY_BYTES;
    reply->body.val.bytes = (greeter_list_u8_t){allocate(len + 1), len + 1};
    memcpy(reply->body.val.bytes.ptr, config.greeting.ptr, len);
    reply->body.val.bytes.ptr[len] = '\n';
}

// Called for every request, before an upstream is chosen.
bool exports_witgate_plugin_request_hook_on_request(exports_witgate_plugin_request_hook_request_verdict_t *verdict,
                                                    exports_witgate_plugin_request_hook_failure_t *failure) {
    if (asks_for_greeting()) {
        greeter_string_t client;
        witgate_plugin_exchange_client_address(&client);
        log_line(WITGATE_PLUGIN_LOG_LEVEL_INFO, "greeted ", &client);
        greeter_string_free(&client);
        verdict->tag = EXPORTS_WITGATE_PLUGIN_REQUEST_HOOK_REQUEST_VERDICT_ANSWER;
        answer(&verdict->val.answer);
        return true;
    }
    greeter_string_t name = TEXT("x-greeting");
    greeter_list_u8_t value = {config.greeting.ptr, config.greeting.len};
    witgate_plugin_request_head_error_t refused;
    if (!witgate_plugin_request_set_header(&name, &value, &refused)) {
        greeter_string_dup(&failure->reason, "the greeting cannot be sent as a header");
        return false;
    }
    verdict->tag = EXPORTS_WITGATE_PLUGIN_REQUEST_HOOK_REQUEST_VERDICT_NEXT;
    return true;
}

// Called for every response, whoever made it.
bool exports_witgate_plugin_response_hook_on_response(exports_witgate_plugin_response_hook_response_verdict_t *verdict,
                                                      exports_witgate_plugin_response_hook_failure_t *failure) {
    greeter_string_t name = TEXT("x-greeting");
    greeter_list_u8_t value = {config.greeting.ptr, config.greeting.len};
    witgate_plugin_response_head_error_t refused;
    if (!witgate_plugin_response_set_header(&name, &value, &refused)) {
        greeter_string_dup(&failure->reason, "the greeting cannot be sent as a header");
        return false;
    }
    verdict->tag = EXPORTS_WITGATE_PLUGIN_RESPONSE_HOOK_RESPONSE_VERDICT_NEXT;
    return true;
}

// --- bodies: the contract wants these, but no verdict here sends a body through them

bool exports_witgate_plugin_transform_method_transform_push(exports_witgate_plugin_transform_borrow_transform_t body,
                                                            greeter_list_u8_t *chunk, greeter_list_u8_t *out,
                                                            exports_witgate_plugin_transform_failure_t *failure) {
    (void)body, (void)failure;
    *out = *chunk;
    return true;
}

bool exports_witgate_plugin_transform_method_transform_finish(exports_witgate_plugin_transform_borrow_transform_t body,
                                                              greeter_list_u8_t *out,
                                                              exports_witgate_plugin_transform_failure_t *failure) {
    (void)body, (void)failure;
    *out = (greeter_list_u8_t){NULL, 0};
    return true;
}

void exports_witgate_plugin_transform_transform_destructor(exports_witgate_plugin_transform_transform_t *body) {
    (void)body;
}
