#include "shapes.h"

#include "error.h"

namespace repfold {
namespace {

void check_same(const Op& op, const Tensor& a, const Tensor& b) {
    if (a.c != b.c || a.h != b.h || a.w != b.w)
        fail("layer '", op.name, "' combines ", a.c, "x", a.h, "x", a.w, " and ", b.c, "x", b.h, "x", b.w, " values");
}

/// A gate is of the image's shape or has one value a channel; either operand may be the gate.
Tensor scaled_shape(const Op& op, const Tensor& a, const Tensor& b) {
    const Tensor& image = a.h == 1 && a.w == 1 ? b : a;
    const Tensor& gate = &image == &a ? b : a;
    if (gate.h != 1 || gate.w != 1 || a.c != b.c) check_same(op, a, b);
    return image;
}

void check_channels(const Op& op, const Tensor& in) {
    if (in.c != op.in_channels)
        fail("layer '", op.name, "' wants ", op.in_channels, " values and gets ", in.c,
             "; a model with a flattened image runs at the image size it was made for");
}

}  // namespace

Tensor result_shape(const Op& op, const Tensor& in, const Tensor* second) {
    Tensor out = in;
    if (in.h > 1 << 24 || in.w > 1 << 24 || in.c > 1 << 28) fail("layer '", op.name, "' gets too large an image");
    switch (op.kind) {
        case OpKind::convolution:
            check_channels(op, in);
            out.c = op.out_channels;
            out.h = op.window.out_h(in.h);
            out.w = op.window.out_w(in.w);
            break;
        case OpKind::affine: check_channels(op, in); break;
        case OpKind::max_pool:
        case OpKind::average_pool:
            out.h = op.window.out_h(in.h, op.ceil_mode);
            out.w = op.window.out_w(in.w, op.ceil_mode);
            break;
        case OpKind::adaptive_pool:
            out.h = op.window.kernel_h;
            out.w = op.window.kernel_w;
            break;
        case OpKind::add: check_same(op, *second, in); break;
        case OpKind::scale: out = scaled_shape(op, in, *second); break;
        case OpKind::activation: break;
        case OpKind::flatten:
            if (static_cast<double>(in.c) * in.h * in.w > 1 << 28) fail("layer '", op.name, "' makes too long a vector");
            out.c = in.c * in.h * in.w;
            out.h = out.w = 1;
            break;
        case OpKind::pad: {
            const Padding& p = op.padding;
            out.c = in.c + p.front + p.back;
            out.h = in.h + p.top + p.bottom;
            out.w = in.w + p.left + p.right;
            break;
        }
    }
    if (out.h < 1 || out.w < 1)
        fail("the images are too small: of ", in.h, "x", in.w, " values nothing is left at layer '", op.name, "'");
    return out;
}

}  // namespace repfold
