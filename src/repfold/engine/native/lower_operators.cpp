// Every operator of the graph's vocabulary that the engine runs.
#include "lower.h"

namespace repfold {

using Activating = Activation::Kind;
using Computing = Function::Kind;
using Reducing = Reduction::Kind;

const std::unordered_map<std::string, Lowering::Operator> Lowering::operators = {
    // layers of images
    {"conv", &Lowering::convolution},
    {"linear", &Lowering::linear},
    {"batch_norm", &Lowering::batch_norm},
    {"max_pool", &Lowering::max_pool},
    {"avg_pool", &Lowering::average_pool},
    {"adaptive_avg_pool", &Lowering::adaptive_pool<false>},
    {"aten.adaptive_max_pool2d.default", &Lowering::adaptive_pool<true>},
    {"resize", &Lowering::resize},
    // movement
    {"view", &Lowering::view},
    {"permute", &Lowering::permute},
    {"expand", &Lowering::expand},
    {"aten.zeros_like.default", &Lowering::filled_as<0>},
    {"aten.ones_like.default", &Lowering::filled_as<1>},
    {"slice", &Lowering::slice},
    {"select", &Lowering::select},
    {"flip", &Lowering::flip},
    {"cat", &Lowering::cat},
    {"aten.stack.default", &Lowering::stack},
    {"aten.roll.default", &Lowering::roll},
    {"aten.index.Tensor", &Lowering::index},
    {"aten.index_select.default", &Lowering::index_select},
    {"aten.unfold.default", &Lowering::unfold},
    {"pad", &Lowering::pad},
    {"pixel_shuffle", &Lowering::pixel_shuffle},
    {"pixel_unshuffle", &Lowering::pixel_unshuffle},
    {"channel_shuffle", &Lowering::channel_shuffle},
    {"item", &Lowering::item},
    {"dropout", &Lowering::dropout},
    {"detach", &Lowering::identity},
    // arithmetic
    {"add", &Lowering::binary<Arithmetic::Kind::add>},
    {"sub", &Lowering::binary<Arithmetic::Kind::sub>},
    {"mul", &Lowering::binary<Arithmetic::Kind::mul>},
    {"div", &Lowering::binary<Arithmetic::Kind::div>},
    {"maximum", &Lowering::binary<Arithmetic::Kind::maximum>},
    {"minimum", &Lowering::binary<Arithmetic::Kind::minimum>},
    {"pow", &Lowering::power},
    {"aten.addcmul.default", &Lowering::sum_with_product},
    {"prelu", &Lowering::prelu},
    // functions of single values
    {"clamp", &Lowering::clamp},
    {"leaky_relu", &Lowering::leaky_relu},
    {"relu", &Lowering::activate<Activating::relu>},
    {"hardswish", &Lowering::activate<Activating::hard_swish>},
    {"hardsigmoid", &Lowering::activate<Activating::hard_sigmoid>},
    {"sigmoid", &Lowering::activate<Activating::sigmoid>},
    {"silu", &Lowering::activate<Activating::silu>},
    {"elu", &Lowering::elu},
    {"softplus", &Lowering::softplus},
    {"gelu", &Lowering::gelu},
    {"tanh", &Lowering::function<Computing::tanh>},
    {"mish", &Lowering::function<Computing::mish>},
    {"exp", &Lowering::function<Computing::exp>},
    {"sqrt", &Lowering::function<Computing::sqrt>},
    {"rsqrt", &Lowering::function<Computing::rsqrt>},
    {"neg", &Lowering::function<Computing::negative>},
    {"aten.abs.default", &Lowering::aten_function<Computing::absolute>},
    {"aten.log.default", &Lowering::aten_function<Computing::log>},
    {"aten.erf.default", &Lowering::aten_function<Computing::erf>},
    {"aten.reciprocal.default", &Lowering::aten_function<Computing::reciprocal>},
    {"aten.sin.default", &Lowering::aten_function<Computing::sine>},
    {"aten.cos.default", &Lowering::aten_function<Computing::cosine>},
    {"aten.floor.default", &Lowering::aten_function<Computing::floor>},
    // of many values
    {"mean", &Lowering::mean},
    {"sum", &Lowering::sum},
    {"aten.amax.default", &Lowering::aten_reduction<Reducing::maximum>},
    {"aten.amin.default", &Lowering::aten_reduction<Reducing::minimum>},
    {"aten.max.dim", &Lowering::extreme<Reducing::maximum>},
    {"aten.min.dim", &Lowering::extreme<Reducing::minimum>},
    {"aten.var.correction", &Lowering::variance},
    {"aten.linalg_vector_norm.default", &Lowering::vector_norm},
    {"layer_norm", &Lowering::layer_norm},
    {"group_norm", &Lowering::group_norm},
    {"instance_norm", &Lowering::instance_norm},
    {"softmax", &Lowering::softmax<false>},
    {"log_softmax", &Lowering::softmax<true>},
    {"matmul", &Lowering::matmul},
    {"scaled_dot_product_attention", &Lowering::attention},
};

const char* name_of(const Operation& operation) {
    const auto own = [](const auto& one) { return one.name; };
    if (const auto* general = std::get_if<General>(&operation)) return std::visit(own, general->what);
    return std::visit([](const auto& one) { return one.name; }, operation);
}

}  // namespace repfold
