/* classify MODEL IMAGE CHANNELS HEIGHT WIDTH: the class of an image of raw float32 values, channel after channel. */
#include <repfold_engine.h>
#include <stdio.h>
#include <stdlib.h>

static char error[2000];

static int stop(const char* what) {
    fprintf(stderr, "classify: %s\n", what);
    return 2;
}

int main(int count, char** words) {
    if (count != 6) return stop("usage: classify MODEL IMAGE CHANNELS HEIGHT WIDTH");
    const int c = atoi(words[3]), h = atoi(words[4]), w = atoi(words[5]);
    repfold_engine* engine = repfold_engine_open(words[1], 1, 1, 0, "fp32", "auto", "auto", error, sizeof error);
    if (!engine) return stop(error);
    const size_t classes = repfold_engine_outputs(engine, 1, c, h, w, error, sizeof error);
    if (!classes) return stop(error);
    const size_t pixels = (size_t)c * h * w;
    float *image = malloc(pixels * sizeof *image), *logits = malloc(classes * sizeof *logits);
    FILE* file = fopen(words[2], "rb");
    if (!image || !logits || !file || fread(image, sizeof *image, pixels, file) != pixels)
        return stop("the image cannot be read, or is too small");
    if (!repfold_engine_run(engine, image, 1, c, h, w, logits, classes, error, sizeof error)) return stop(error);
    size_t best = 0;
    for (size_t k = 1; k < classes; ++k)
        if (logits[k] > logits[best]) best = k;
    printf("class %zu, logit %.6g\n", best, logits[best]);
    repfold_engine_close(engine);
    return 0;
}
