/* The plain C interface of the engine: open a folded model file, run it, close it.
 *
 * Every function that can fail returns 0 (or NULL) and writes a message of what, why and what to do into `error`.
 * An engine may be shared by threads: as many calls as it has contexts run at once, and share the weights; further ones
 * wait, in the order in which they came.
 */
#ifndef REPFOLD_ENGINE_H
#define REPFOLD_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define REPFOLD_API __declspec(dllexport)
#else
#define REPFOLD_API __attribute__((visibility("default")))
#endif

typedef struct repfold_engine repfold_engine;

/* Bumped when a signature here changes; the Python face refuses a library of another version. */
REPFOLD_API int repfold_engine_version(void);

/* The kernels this CPU can run, best first, separated by spaces: "avx512 avx2 scalar". Behind them "bf16" where it
 * computes in bfloat16, and "amx" where it has a unit of its own for that. */
REPFOLD_API const char* repfold_engine_cpu(void);

/* threads: of one call; fewer where the system grants no more. contexts: calls that run at once. memory: bytes that the
 * process may hold, beyond which a call is refused; 0 stands for the machine's memory. precision: "fp32" or "bf16".
 * kernels: "auto" or one of repfold_engine_cpu(). convolution: "auto", "direct", or a Winograd tile "2x2", "4x4", ...
 * for all layers that can; "strict" chooses as for one image and one thread, so that every batch size and number of
 * threads gives the same bits. Behind it, as in "auto whole", "whole" computes no layers together in bands of rows, and
 * "bands" all that can be. Further lines choose for one layer each: "NAME 4x4", names as describe() has them. */
REPFOLD_API repfold_engine* repfold_engine_open(const char* path, int threads, int contexts, size_t memory,
                                                const char* precision, const char* kernels, const char* convolution,
                                                char* error, size_t error_size);

/* images: float32 [n, channels, height, width]; logits: float32 [n, classes], room for `capacity` floats.
 * Returns the number of floats written, or 0. */
REPFOLD_API size_t repfold_engine_run(repfold_engine* engine, const float* images, int n, int channels, int height,
                                      int width, float* logits, size_t capacity, char* error, size_t error_size);

/* The same with all that a call needs in one place, for callers who make it once. */
typedef struct repfold_engine_call {
    repfold_engine* engine;
    const float* images;
    float* outputs;
    size_t capacity;
    char* error;
    size_t error_size;
    int n, channels, height, width;
} repfold_engine_call;
REPFOLD_API size_t repfold_engine_run_call(const repfold_engine_call* call);

/* Channels of the images that the model wants, and the side of the images that it was made for; 0 where unknown. */
REPFOLD_API int repfold_engine_channels(const repfold_engine* engine);
REPFOLD_API int repfold_engine_image_size(const repfold_engine* engine);

/* Floats that run() writes for this input, or 0. */
REPFOLD_API size_t repfold_engine_outputs(repfold_engine* engine, int n, int channels, int height, int width,
                                          char* error, size_t error_size);

/* The sizes of what run() writes for this input, at most 8 of them; returns how many there are, or 0. */
REPFOLD_API int repfold_engine_output_sizes(repfold_engine* engine, int n, int channels, int height, int width,
                                            int64_t* sizes, char* error, size_t error_size);

/* One call, of which the seconds of each layer are told, in the order of describe(); returns how many layers there are,
 * or 0. */
REPFOLD_API size_t repfold_engine_time_layers(repfold_engine* engine, const float* images, int n, int channels,
                                              int height, int width, double* seconds, size_t capacity, char* error,
                                              size_t error_size);

/* The plan for this input as a JSON text, valid until the next call on this thread; NULL on error. */
REPFOLD_API const char* repfold_engine_describe(repfold_engine* engine, int n, int channels, int height, int width,
                                                char* error, size_t error_size);

/* No call on the engine may be under way, or follow. */
REPFOLD_API void repfold_engine_close(repfold_engine* engine);

#ifdef __cplusplus
}
#endif
#endif
