// How many plans the planner goes through per second on one core, and what a second core adds.
//
//   Screen         every plan of a space: validity, memory, and a lower bound on the step.
//   Compose        feasible MoE plans of that space, one in 50: moves to it, its modules timed anew beside its own
//                  data-parallel traffic, its pipeline composed.
//   Search         the whole answer, with one thread.
//   SecondCore     the same with one thread and with two, by the wall: `speedup` is of the best of each. On a machine
//                  with other work it says little.
//
// items_per_second are plans per core-second; x_NAME is that beside a public planner's, measured on one core of 2.1
// GHz:
//   Calculon (https://github.com/calculon-ai/calculon): 341 executions a second, 92 of them feasible; closed forms.
//   SimuMax (https://github.com/MooreThreads/SimuMax): 7.6 plans a second of an MoE model.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <vector>

#include "planner/mesh_table.h"
#include "planner/search.h"

namespace msmoe::planner {
namespace {

constexpr double kCalculonExecutions = 341, kCalculonFeasible = 92, kSimuMaxPlans = 7.6;

Question ask(const char* model, std::int64_t gpus, std::int64_t global_batch, std::int64_t seq_len) {
  Plan base;
  base.model = model;
  base.cluster = "h800";
  base.gpus = gpus;
  base.global_batch = global_batch;
  base.seq_len = seq_len;
  Question question = make_question(find_model(base.model), find_cluster(base.cluster), base, {});
  question.jobs = 1;
  return question;
}

// The two published jobs: MegaScale-MoE (arXiv 2505.11432) and DeepSeek-V3 (arXiv 2412.19437).
Question megascale() { return ask("megascale-352b", 1440, 720, 8192); }
Question deepseek() { return ask("deepseek-v3", 2048, 15360, 4096); }

void count_plans(benchmark::State& state, std::int64_t plans) { state.SetItemsProcessed(plans); }

void compare(benchmark::State& state, const char* name, std::int64_t plans, double peer_rate) {
  state.counters[name] = benchmark::Counter(static_cast<double>(plans) / peer_rate, benchmark::Counter::kIsRate);
}

void Screen(benchmark::State& state, const Question& question) {
  std::int64_t plans = 0;
  for (auto _ : state) plans += screen_space(question).considered;
  count_plans(state, plans);
  compare(state, "x_Calculon", plans, kCalculonExecutions);
}
BENCHMARK_CAPTURE(Screen, megascale_352b_1440_gpus, megascale())->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Screen, deepseek_v3_2048_gpus, deepseek())->Unit(benchmark::kMillisecond);

struct Place {
  std::size_t table;
  int pipeline, variant;
};

// Every stride-th plan that is valid and fits.
std::vector<Place> feasible_places(const Question& question, std::vector<std::unique_ptr<MeshTable>>& tables,
                                   std::int64_t stride) {
  std::vector<Place> places;
  std::int64_t feasible = 0;
  for (std::size_t table = 0; table < tables.size(); ++table) {
    MeshTable::Cursor cursor(*tables[table]);
    for (std::size_t pipeline = 0; pipeline < tables[table]->pipelines().size(); ++pipeline) {
      cursor.move_to_pipeline(static_cast<int>(pipeline));
      for (std::size_t variant = 0; variant < tables[table]->variants().size(); ++variant) {
        cursor.move_to_variant(static_cast<int>(variant));
        if (!cursor.is_valid() || cursor.memory().total() > question.cluster.gpu.memory) continue;
        if (feasible++ % stride == 0) places.push_back({table, static_cast<int>(pipeline), static_cast<int>(variant)});
      }
    }
  }
  return places;
}

void Compose(benchmark::State& state, const Question& question) {
  std::vector<std::unique_ptr<MeshTable>> tables;
  for (const Mesh& mesh : meshes(question)) tables.push_back(std::make_unique<MeshTable>(question, mesh));
  const std::vector<Place> places = feasible_places(question, tables, 50);
  std::int64_t plans = 0;
  for (auto _ : state) {
    std::unique_ptr<MeshTable::Cursor> cursor;
    for (std::size_t i = 0; i < places.size(); ++i) {
      const bool new_table = i == 0 || places[i].table != places[i - 1].table;
      if (new_table) cursor = std::make_unique<MeshTable::Cursor>(*tables[places[i].table]);
      if (new_table || places[i].pipeline != places[i - 1].pipeline) cursor->move_to_pipeline(places[i].pipeline);
      cursor->move_to_variant(places[i].variant);
      benchmark::DoNotOptimize(cursor->step_ps());
    }
    plans += static_cast<std::int64_t>(places.size());
  }
  count_plans(state, plans);
  compare(state, "x_Calculon", plans, kCalculonFeasible);
  compare(state, "x_SimuMax", plans, kSimuMaxPlans);
}
BENCHMARK_CAPTURE(Compose, megascale_352b_1440_gpus, megascale())->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Compose, deepseek_v3_2048_gpus, deepseek())->Unit(benchmark::kMillisecond);

void WholeSearch(benchmark::State& state, const Question& question) {
  std::int64_t plans = 0;
  for (auto _ : state) plans += search(question).considered;
  count_plans(state, plans);
  compare(state, "x_Calculon", plans, kCalculonExecutions);
}
BENCHMARK_CAPTURE(WholeSearch, megascale_352b_1440_gpus, megascale())->Unit(benchmark::kMillisecond)->Name("Search");

double wall_seconds(Question question, int jobs) {
  question.jobs = jobs;
  const auto start = std::chrono::steady_clock::now();
  benchmark::DoNotOptimize(search(question).best.size());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void SecondCore(benchmark::State& state, const Question& question) {
  double one = std::numeric_limits<double>::infinity(), two = one;
  for (auto _ : state) {
    one = std::min(one, wall_seconds(question, 1));
    two = std::min(two, wall_seconds(question, 2));
  }
  state.counters["one_s"] = one;
  state.counters["two_s"] = two;
  state.counters["speedup"] = one / two;
}
BENCHMARK_CAPTURE(SecondCore, megascale_352b_1440_gpus, megascale())
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->Iterations(5);

}  // namespace
}  // namespace msmoe::planner
