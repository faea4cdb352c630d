// One rank of a training: it meets the others, fills its parameters, and goes from step to step.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <csignal>
#include <memory>
#include <thread>

#include "core/error.h"
#include "executor/backend/cpu_backend.h"
#include "executor/communication/communicators.h"
#include "executor/communication/lone_communicator.h"
#include "executor/data/sampler.h"
#include "executor/job/job.h"
#include "executor/launch/rendezvous.h"
#include "executor/parameters/initialize.h"
#include "executor/telling/jsonl_metrics.h"
#include "executor/telling/step_line.h"
#include "executor/telling/tensorboard_events.h"
#include "executor/training/checkpoints.h"
#include "executor/training/timeline.h"
#include "executor/training/trainer.h"

namespace msmoe::executor {
namespace {

// SIGTERM: whoever started the job wants it to save and end.
volatile std::sig_atomic_t stop_wanted = 0;
void want_stop(int) { stop_wanted = 1; }

Duration since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now() - begin);
}

// The other ranks: a rendezvous that watches them, and communicators. A job of one rank has neither.
class Others {
 public:
  // position: what this rank is at when another one is lost; outlives it.
  Others(const Job& job, const ProcessPlace& place, const Position& position) : lone_(lone_communicator()) {
    if (place.num_ranks == 1) return;
    RendezvousOptions options{
        .rank = place.rank,
        .num_ranks = place.num_ranks,
        .host = place.host,
        .port = place.port,
        .listener = place.listener,
        .job = place.job,
        .must_agree = {{"plan", plan_to_json(job.plan)}, {"gpus_per_node", std::to_string(job.cluster.gpus_per_node)}}};
    rendezvous_ = std::make_unique<Rendezvous>(std::move(options), [rank = place.rank, &position](int lost) {
      // Nobody can go on: a collective would wait for ever. But whoever started the job hears first of the one that was
      // lost: its end, and what it said, is what is wrong.
      std::this_thread::sleep_for(std::chrono::seconds(1));
      fmt::print(stderr, "msmoe-run: rank {} was lost; rank {} was at {}\n", lost, rank, position.text());
      std::fflush(stderr);
      ::_exit(kExitFault);
    });
    communicators_ = std::make_unique<Communicators>(job.plan, place.rank, *rendezvous_,
                                                     CommunicatorsOptions{.gpus_per_node = job.cluster.gpus_per_node});
  }

  Communicator& of(GroupKind kind) { return communicators_ ? communicators_->of(kind) : *lone_; }
  std::vector<std::string> exchange(const std::string& bytes) {
    return rendezvous_ ? rendezvous_->exchange(bytes) : std::vector{bytes};
  }
  void leave() {
    if (rendezvous_) rendezvous_->leave();
  }

 private:
  std::unique_ptr<Communicator> lone_;
  std::unique_ptr<Rendezvous> rendezvous_;
  std::unique_ptr<Communicators> communicators_;
};

// Whatever tells people and their tools of each step; of rank 0 alone.
class Telling {
 public:
  Telling(const Job& job, std::int64_t first_step)
      : basis_{.flops_per_token = flops_per_token(job.model, job.plan.seq_len),
               .peak_per_gpu = peak_of(job.cluster.gpu, job.plan.precision),
               .gpus = job.plan.gpus},
        line_({.last_step = job.options.steps, .basis = basis_}) {
    if (!job.options.metrics.empty()) jsonl_ = std::make_unique<JsonlMetrics>(job.options.metrics, first_step, basis_);
    if (!job.options.tensorboard.empty())
      events_ = std::make_unique<TensorBoardEvents>(job.options.tensorboard, first_step, basis_);
  }

  void tell(const StepMetrics& metrics) {
    say(line_.tell(metrics));
    write(jsonl_, metrics);
    write(events_, metrics);
  }
  static void say(const std::string& text) {
    fmt::print("{}\n", text);
    std::fflush(stdout);
  }

 private:
  // A full disk is no reason to lose a training.
  template <class File>
  void write(const std::unique_ptr<File>& file, const StepMetrics& metrics) {
    if (!file || file->failed()) return;
    try {
      file->tell(metrics);
    } catch (const std::runtime_error& error) {
      fmt::print(stderr, "msmoe-run: warning: {}\n", error.what());
    }
  }

  MfuBasis basis_;
  StepLine line_;
  std::unique_ptr<JsonlMetrics> jsonl_;
  std::unique_ptr<TensorBoardEvents> events_;
};

class RankRun {
 public:
  RankRun(Job& job, const ProcessPlace& place)
      : job_(job),
        options_(job.options),
        is_first_(place.rank == 0),
        others_(job, place, position_),
        auxiliary_(options_.auxiliary.value_or(job.numerics.aux_loss)),
        trainer_(
            job.model, job.numerics, job.cluster, job.plan, place.rank, backend_,
            [this](GroupKind kind) -> Communicator& { return others_.of(kind); },
            {.auxiliary = auxiliary_, .z = options_.z}, position_) {
    if (options_.checkpoint_dir.empty()) return;
    checkpoints_ = std::make_unique<Checkpoints>(
        TrainedModel{.model = job.model, .numerics = job.numerics, .plan = job.plan, .rank = place.rank},
        trainer_.store(), options_.checkpoint_dir,
        [this](const std::string& bytes) { return others_.exchange(bytes); });
  }

  int run() {
    std::signal(SIGTERM, want_stop);
    const TrainingState start = fill_parameters();
    Sampler sampler(*job_.data, sampling(start.position));
    std::int64_t step = start.step, saved = start.step;
    if (is_first_) telling_ = std::make_unique<Telling>(job_, step + 1);
    auto begin = std::chrono::steady_clock::now();
    bool stops = false;
    while (step < options_.steps && !stops) {
      ++step;
      const std::unique_ptr<Timeline> timeline = timeline_of(step, start.step);
      stops = train(step, sampler, begin);
      if (timeline) timeline->write(options_.trace);
      const bool is_last = stops || step == options_.steps;
      if (is_due(options_.validate_every, step) && !is_last) {
        validate(step);
        begin = std::chrono::steady_clock::now();
      }
      if (checkpoints_ && (is_last || is_due(options_.checkpoint_every, step)) && step > saved) {
        warn(checkpoints_->save(state_of(step, sampler.position())));
        saved = step;
      }
    }
    if (!stops) validate(step);
    if (checkpoints_) warn(checkpoints_->finish());
    others_.leave();
    return kExitDone;
  }

 private:
  Sampling sampling(std::int64_t position) const {
    return {.seq_len = job_.plan.seq_len,
            .global_batch = job_.plan.global_batch,
            .rank = trainer_.place().data,
            .num_ranks = static_cast<int>(job_.plan.dp()),
            .seed = options_.seed,
            .position = position};
  }

  static bool is_due(std::int64_t every, std::int64_t step) { return every > 0 && step % every == 0; }

  void warn(const std::vector<std::string>& lines) const {
    for (const std::string& line : lines) fmt::print(stderr, "msmoe-run: warning: {}\n", line);
  }

  TrainingState state_of(std::int64_t step, std::int64_t position) const {
    return {.step = step,
            .position = position,
            .seed = options_.seed,
            .data = options_.data,
            .num_tokens = job_.data->num_tokens(),
            .seq_len = job_.plan.seq_len,
            .hyper_parameters = {.rate = options_.rate,
                                 .min_rate = options_.min_rate,
                                 .warmup = options_.warmup,
                                 .steps = options_.steps,
                                 .beta1 = options_.beta1,
                                 .beta2 = options_.beta2,
                                 .epsilon = options_.epsilon,
                                 .decay = options_.decay,
                                 .clip = options_.clip,
                                 .auxiliary = auxiliary_,
                                 .z = options_.z,
                                 .bias_rate = options_.bias_rate}};
  }

  // Where the training stands then.
  TrainingState fill_parameters() {
    if (options_.resume) {
      const ResumedTraining resumed = checkpoints_->load();
      if (is_first_) {
        warn(resumed.warnings);
        warn(changes(resumed.state, state_of(0, 0)));
        Telling::say(fmt::format("goes on from {}, step {}", resumed.folder, resumed.state.step));
      }
      return resumed.state;
    }
    if (options_.from.empty()) {
      initialize(trainer_.store(), {.seed = options_.seed, .deviation = job_.numerics.initializer_range});
      return state_of(0, 0);
    }
    load_weights(trainer_.store(), job_.model, ModelReader(options_.from), rotary_order(job_.numerics));
    return state_of(0, 0);
  }

  // The second step's, or that of the only one: the first one warms up. Steps before `start` were another run's.
  std::unique_ptr<Timeline> timeline_of(std::int64_t step, std::int64_t start) {
    if (options_.trace.empty() || step != std::min(start + 2, options_.steps)) return nullptr;
    auto timeline = std::make_unique<Timeline>(trainer_, others_.of(GroupKind::kWorld));
    timeline->begin_step();
    return timeline;
  }

  struct Batch {
    std::vector<std::int32_t> tokens, targets;
  };
  Batch read(const Sampler& sampler) const {
    const auto size = static_cast<std::size_t>(sampler.samples_per_step() * job_.plan.seq_len);
    Batch batch{std::vector<std::int32_t>(size), std::vector<std::int32_t>(size)};
    sampler.read(0, batch.tokens, batch.targets);
    return batch;
  }

  // Of all ranks: whether any was asked to stop, and the memory of the fullest process.
  struct JobState {
    bool stops;
    Bytes peak_memory;
  };
  JobState job_state() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    std::array<float, 2> most = {stop_wanted != 0 ? 1.0F : 0.0F, static_cast<float>(usage.ru_maxrss)};  // KiB
    others_.of(GroupKind::kWorld).all_reduce(most.data(), most.size(), Reduction::kMaximum);
    return {most[0] > 0, Bytes{most[1] * 1024.0}};
  }

  bool train(std::int64_t step, Sampler& sampler, std::chrono::steady_clock::time_point& begin) {
    const Batch batch = read(sampler);
    const StepResult result = trainer_.accumulate(batch.tokens, batch.targets);
    const bool finite = std::isfinite(result.loss) && std::isfinite(result.gradient_norm);
    const double rate = learning_rate(options_, step);
    if (finite) {
      trainer_.update({.step = step,
                       .rate = rate,
                       .beta1 = options_.beta1,
                       .beta2 = options_.beta2,
                       .epsilon = options_.epsilon,
                       .decay = options_.decay,
                       .clip = options_.clip},
                      options_.bias_rate);
    }
    sampler.advance();
    const JobState state = job_state();
    if (telling_) {
      const bool routes = result.expert_load > 0;
      telling_->tell({.step = step,
                      .loss = result.loss,
                      .auxiliary_loss = routes ? std::optional(auxiliary_ * result.auxiliary) : std::nullopt,
                      .z_loss = options_.z > 0 ? std::optional(options_.z * result.z) : std::nullopt,
                      .gradient_norm = result.gradient_norm,
                      .learning_rate = rate,
                      .tokens = job_.plan.global_batch * job_.plan.seq_len,
                      .time = since(begin),
                      .peak_memory = state.peak_memory,
                      .largest_expert_load = routes ? std::optional(result.expert_load) : std::nullopt,
                      .dropped_tokens = result.dropped,
                      .has_nan = std::isnan(result.loss) || std::isnan(result.gradient_norm),
                      .has_inf = std::isinf(result.loss) || std::isinf(result.gradient_norm)});
    }
    begin = std::chrono::steady_clock::now();
    if (!finite)
      throw std::runtime_error(
          fmt::format("step {}: the loss is {} and the gradient's norm {}; weights are as the step before left them",
                      step, result.loss, result.gradient_norm));
    return state.stops;
  }

  void validate(std::int64_t step) {
    if (!job_.validation) return;
    Sampler sampler(*job_.validation, sampling(0));
    double loss = 0;
    for (std::int64_t i = 0; i < options_.validation_batches; ++i, sampler.advance()) {
      const Batch batch = read(sampler);
      loss += trainer_.evaluate(batch.tokens, batch.targets) / static_cast<double>(options_.validation_batches);
    }
    if (is_first_) Telling::say(fmt::format("step {}: validation loss {:.4f}", step, loss));
  }

  Job& job_;
  const RunOptions& options_;
  bool is_first_;
  Position position_;
  Others others_;
  CpuBackend backend_;
  double auxiliary_;
  Trainer trainer_;
  std::unique_ptr<Telling> telling_;
  std::unique_ptr<Checkpoints> checkpoints_;  // the last member: its thread ends before the others go
};

}  // namespace

namespace {

// Whoever was lost is known in a moment, and what ends this process then says more.
void await_better_line() { std::this_thread::sleep_for(std::chrono::seconds(3)); }

}  // namespace

int run_rank(Job& job, const ProcessPlace& place) {
  try {
    return RankRun(job, place).run();
  } catch (const CommunicationFault&) {
    await_better_line();
    throw;
  } catch (const RankLost&) {
    await_better_line();
    throw;
  }
}

}  // namespace msmoe::executor
