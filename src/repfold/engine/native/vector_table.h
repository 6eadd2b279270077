// The table of one instruction set.
#pragma once

#include "plain_pooling.h"
#include "vector_grouped.h"
#include "vector_plain.h"
#include "vector_winograd.h"

namespace repfold {

template <class Isa>
constexpr Kernels vector_table(const char* name) {
    Kernels table{};
    fill_plain<Isa>(table);
    table.name = name;
    table.lanes = Isa::lanes;
    table.max_vectors = Isa::max_vectors;
    table.channel_step = Isa::step;
    table.direct = DirectConvolution<Isa>::run;
    table.grouped = GroupedConvolution<Isa>::run;
    table.affine = VectorPlain<Isa>::affine;
    table.max_pool = VectorPlain<Isa>::max_pool;
    table.average_pool = VectorPlain<Isa>::average_pool;
    table.add = VectorPlain<Isa>::add;
    table.scale = VectorPlain<Isa>::scale;
    table.activate = VectorPlain<Isa>::activate;
    table.has_tile = WinogradTable<Isa>::has_tile;
    table.transform_input = WinogradTable<Isa>::transform_input;
    table.multiply = WinogradConvolution<Isa>::multiply;
    table.finish = WinogradTable<Isa>::finish;
    return table;
}

}  // namespace repfold
