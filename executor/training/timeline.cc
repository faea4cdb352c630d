#include "executor/training/timeline.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "core/plan_names.h"
#include "executor/communication/mesh.h"
#include "executor/operator_time.h"
#include "reports/trace.h"

namespace msmoe::executor {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(OperatorTime, name, pass, stream, micro_batch, chunk, module, layer, bytes, flops,
                                   begin_seconds, end_seconds)

namespace {

// Begin and end are rounded alike, so that what followed one another still does.
Duration duration(double seconds) { return std::chrono::round<Duration>(std::chrono::duration<double>(seconds)); }

void write_operator(reports::TraceWriter& writer, int rank, const OperatorTime& time) {
  reports::TraceArgs args;
  const auto add_place = [&](const char* name, int value) {
    if (value >= 0) args.emplace_back(name, std::int64_t{value});
  };
  add_place("micro_batch", time.micro_batch);
  add_place("chunk", time.chunk);
  add_place("module", time.module);
  add_place("layer", time.layer);
  if (time.bytes > 0) args.emplace_back("bytes", time.bytes);
  if (time.flops > 0) args.emplace_back("flops", time.flops);
  const Duration begin = duration(time.begin_seconds), end = duration(time.end_seconds);
  writer.complete(rank, static_cast<int>(time.stream), time.name, time.pass, begin, end - begin, args);
}

void write_rank(reports::TraceWriter& writer, const Plan& plan, int rank, const std::vector<OperatorTime>& times) {
  static constexpr const char* kStreamNames[kNumStreams] = {"compute", "communication", "pipeline", "data parallel"};
  const int stage = place_of(plan, rank).stage;
  writer.process_name(rank, "stage " + std::to_string(stage) + ", rank " + std::to_string(rank),
                      stage * static_cast<int>(plan.gpus) + rank);
  for (int stream = 0; stream < kNumStreams; ++stream) writer.thread_name(rank, stream, kStreamNames[stream], stream);
  for (const OperatorTime& time : times) write_operator(writer, rank, time);
}

}  // namespace

Timeline::Timeline(Trainer& trainer, Communicator& world) : trainer_(trainer), world_(world) {
  const auto add = [this](const OperatorTime& time) {
    times_.push_back(time);
    times_.back().begin_seconds -= begin_seconds_;
    times_.back().end_seconds -= begin_seconds_;
  };
  trainer.observe_times(add);
}
Timeline::~Timeline() { trainer_.observe_times({}); }

void Timeline::begin_step() {
  times_.clear();
  float nothing = 0;
  world_.all_reduce(&nothing, 1, Reduction::kSum);
  begin_seconds_ = seconds_now();
}

void Timeline::write(const std::string& path) const {
  if (world_.rank() > 0) {
    const std::vector<std::uint8_t> bytes = nlohmann::json::to_cbor(times_);
    const std::uint64_t size = bytes.size();
    world_.send(0, &size, sizeof(size));
    world_.send(0, bytes.data(), bytes.size());
    world_.finish_sends();
    return;
  }
  const Plan& plan = trainer_.plan();
  reports::TraceWriter writer(path, {{"tool", std::string("msmoe-run")}, {"plan", describe_plan(plan)}});
  write_rank(writer, plan, 0, times_);
  for (int rank = 1; rank < world_.size(); ++rank) {
    std::uint64_t size = 0;
    world_.receive(rank, &size, sizeof(size));
    std::vector<std::uint8_t> bytes(size);
    world_.receive(rank, bytes.data(), bytes.size());
    write_rank(writer, plan, rank, nlohmann::json::from_cbor(bytes).get<std::vector<OperatorTime>>());
  }
  writer.finish();
}

}  // namespace msmoe::executor
