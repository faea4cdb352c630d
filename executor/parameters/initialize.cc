#include "executor/parameters/initialize.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>
#include <span>
#include <vector>

#include "core/error.h"
#include "core/random_bits.h"
#include "executor/checkpoint/hf_names.h"

namespace msmoe::executor {
namespace {

enum class Start : std::uint8_t { kNormal, kOne, kZero };

Start start_of(Part part) {
  switch (part) {
    case Part::kFinalNorm:
    case Part::kAttentionNorm:
    case Part::kFeedForwardNorm:
    case Part::kQueryNorm:
    case Part::kKeyNorm:
    case Part::kQueryDownNorm:
    case Part::kKvDownNorm:
    case Part::kPredictTokenNorm:
    case Part::kPredictHiddenNorm:
    case Part::kPredictFinalNorm: return Start::kOne;
    case Part::kQueryBias:
    case Part::kKeyBias:
    case Part::kValueBias:
    case Part::kQueryDownBias:
    case Part::kKvDownBias:
    case Part::kAttentionOutputBias:
    case Part::kGateBias:
    case Part::kUpBias:
    case Part::kDownBias:
    case Part::kRouterBias: return Start::kZero;
    default: return Start::kNormal;
  }
}

// In (0, 1].
double uniform(std::uint64_t bits) { return static_cast<double>((bits >> 11) + 1) * 0x1p-53; }

// fill(piece, values): all of the piece's values, in order.
template <class Fill>
void set_masters(ParameterStore& store, Fill fill) {
  std::vector<float> values;
  for (const StatePiece& piece : store.held_pieces()) {
    values.resize(static_cast<std::size_t>(piece.end - piece.begin));
    fill(piece, std::span<float>(values));
    store.backend().from_host(piece.state(StateKind::kMaster), values.data(), values.size() * sizeof(float));
  }
  store.publish_masters();
}

}  // namespace

float initial_value(const InitialValues& values, const Parameter& parameter, std::int64_t element_idx) {
  switch (start_of(parameter.part)) {
    case Start::kOne: return 1;
    case Start::kZero: return 0;
    case Start::kNormal: break;
  }
  const auto bits_of = [](int number) { return static_cast<std::uint64_t>(number); };
  const std::uint64_t key = draw_key({values.seed, bits_of(static_cast<int>(parameter.part)), bits_of(parameter.layer),
                                      bits_of(parameter.expert), static_cast<std::uint64_t>(element_idx / 2)});
  const double radius = std::sqrt(-2 * std::log(uniform(key)));
  const double angle = 2 * std::numbers::pi * uniform(mix_bits(key + kSplitMixStep));
  return static_cast<float>(values.deviation * radius * (element_idx % 2 == 0 ? std::cos(angle) : std::sin(angle)));
}

void initialize(ParameterStore& store, const InitialValues& values) {
  set_masters(store, [&](const StatePiece& piece, std::span<float> masters) {
    const LocalParameter& local = *piece.parameter;
    const std::int64_t columns = whole_box(local.whole).columns();
    for_each_row(local.slice, piece.begin, piece.end,
                 [&](std::int64_t row, std::int64_t column_begin, std::int64_t column_end, std::int64_t at) {
                   for (std::int64_t column = column_begin; column < column_end; ++column)
                     masters[static_cast<std::size_t>(at + column - column_begin)] =
                         initial_value(values, local.whole, row * columns + column);
                 });
  });
}

void load_weights(ParameterStore& store, const Model& model, const ModelReader& files, RotaryOrder order) {
  const HfNames names(model);
  set_masters(store, [&](const StatePiece& piece, std::span<float> masters) {
    const Parameter& whole = piece.parameter->whole;
    const std::string& name = names.name(whole);
    const std::span<const std::byte> bytes = files.data(name, whole.shape);
    const TensorType type = files.find(name)->type;
    if (type != TensorType::kF32 && type != TensorType::kBf16 && type != TensorType::kF16)
      throw UserError(files.file_of(name), "tensor " + name, fmt::format("has elements of {}", name_of(type)),
                      "F32, BF16 and F16 are allowed");
    const auto read = [&](std::int64_t element, std::int64_t count, std::int64_t at) {
      const std::int64_t size = bytes_of(type);
      to_floats(type, bytes.subspan(static_cast<std::size_t>(element * size), static_cast<std::size_t>(count * size)),
                masters.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(count)));
    };
    const std::int64_t columns = whole_box(whole).columns();
    for_each_row(piece.parameter->slice, piece.begin, piece.end,
                 [&](std::int64_t row, std::int64_t column_begin, std::int64_t column_end, std::int64_t at) {
                   if (whole.shape.size() > 1) {
                     const std::int64_t first = row_in_file(order, model, whole, row) * columns;
                     read(first + column_begin, column_end - column_begin, at);
                   } else {
                     for (std::int64_t column = column_begin; column < column_end; ++column)
                       read(row_in_file(order, model, whole, column), 1, at + column - column_begin);
                   }
                 });
  });
}

}  // namespace msmoe::executor
