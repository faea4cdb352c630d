// A training that is stopped, killed, or has no room on its disk goes on from its newest good checkpoint as if nothing
// had been; under another plan, too.
//
// 20 kills; 50 with MSMOE_ALL_KILLS=1.
#include "executor/training/checkpoints.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>
#include <random>
#include <set>
#include <thread>

#include "core/error.h"
#include "tests/executor/rank_processes.h"
#include "tests/executor/scratch_folder.h"
#include "tests/executor/tiny_training.h"
#include "tests/file_limit.h"

namespace msmoe::executor {
namespace {

namespace fs = std::filesystem;

constexpr int kMostSteps = 32;
constexpr double kBiasRate = 0.01;

UpdateSettings settings_of(int step) { return {.step = step + 1, .rate = 2e-3, .clip = 1}; }

TrainingState state_of(const Plan& plan, int steps_done) {
  return {.step = steps_done,
          .position = steps_done * plan.global_batch,
          .seed = std::numeric_limits<std::uint64_t>::max(),
          .data = {"a pattern"},
          .num_tokens = 1'000'000,
          .seq_len = plan.seq_len,
          .hyper_parameters = {.rate = 2e-3, .steps = kMostSteps, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8}};
}

// What ranks tell the test, in memory that they share: it outlives a rank that is killed.
struct Record {
  std::array<std::atomic<double>, kMostSteps> losses;  // by step; 0: not told
  std::atomic<int> first_step = -1;                    // where the ranks began
  std::atomic<int> steps_saved = 0;                    // of the newest checkpoint that was told to be complete
};

class SharedRecord {
 public:
  SharedRecord() {
    void* const memory = ::mmap(nullptr, sizeof(Record), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(memory, MAP_FAILED);
    record_ = new (memory) Record;
  }
  ~SharedRecord() { ::munmap(record_, sizeof(Record)); }
  SharedRecord(const SharedRecord&) = delete;
  SharedRecord& operator=(const SharedRecord&) = delete;
  Record* operator->() const { return record_; }
  Record& operator*() const { return *record_; }

  std::vector<double> losses(int end) const { return {record_->losses.begin(), record_->losses.begin() + end}; }

 private:
  Record* record_;
};

// A rank with its checkpoints.
struct SavingRank {
  SavingRank(const TinyModel& tiny, const Plan& given, int rank_idx, Rendezvous& rendezvous, const std::string& folder,
             const CheckpointsOptions& options = {})
      : communicators(given, rank_idx, rendezvous),
        rank(tiny, given, rank_idx, [this](GroupKind kind) -> Communicator& { return communicators.of(kind); },
             {.auxiliary = 0.02, .z = 0.001}),
        checkpoints(
            {.model = tiny.model, .numerics = tiny.numerics, .plan = rank.plan, .rank = rank_idx}, rank.trainer.store(),
            folder, [&rendezvous](const std::string& bytes) { return rendezvous.exchange(bytes); }, options) {}

  double step(int step) {
    const double loss = rank.accumulate(step).loss;
    rank.trainer.update(settings_of(step), kBiasRate);
    return loss;
  }
  std::vector<std::string> save(int steps_done) { return checkpoints.save(state_of(rank.plan, steps_done)); }
  int load() {
    const ResumedTraining resumed = checkpoints.load();
    EXPECT_EQ(resumed.state, state_of(rank.plan, static_cast<int>(resumed.state.step)));
    return static_cast<int>(resumed.state.step);
  }

  Communicators communicators;
  TinyRank rank;
  Checkpoints checkpoints;
};

// What a job does: goes on from a folder's newest checkpoint, if it has one, and saves every few steps.
struct Course {
  std::string folder;
  int end = 0;         // steps
  int save_every = 0;  // 0: never
  bool resumes = false;
};

void follow(const Course& course, const TinyModel& tiny, const Plan& plan, Record& record, int rank_idx,
            Rendezvous& rendezvous) {
  SavingRank rank(tiny, plan, rank_idx, rendezvous, course.folder);
  const int first = course.resumes ? rank.load() : 0;
  const auto tell = [&](auto& what, auto value) {
    if (rank_idx == 0) what = value;
  };
  tell(record.first_step, first);
  int being_saved = 0;
  for (int step = first; step < course.end; ++step) {
    tell(record.losses[static_cast<std::size_t>(step)], rank.step(step));
    if (course.save_every == 0 || (step + 1) % course.save_every != 0) continue;
    EXPECT_EQ(rank.save(step + 1), std::vector<std::string>{});
    tell(record.steps_saved, std::exchange(being_saved, step + 1));
  }
  EXPECT_EQ(rank.checkpoints.finish(), std::vector<std::string>{});
  tell(record.steps_saved, being_saved);
}

// The losses by step, of those before the first step 0.
std::vector<double> losses_of(const Course& course, const TinyModel& tiny, const Plan& plan) {
  const SharedRecord record;
  run_ranks(static_cast<int>(plan.gpus),
            [&](int rank, Rendezvous& rendezvous) { follow(course, tiny, plan, *record, rank, rendezvous); });
  return record.losses(course.end);
}

struct NamedPlan {
  std::string name;
  Plan plan;
};

std::vector<NamedPlan> plans_of(const TinyModel& tiny) {
  const auto plan_with = [&](std::int64_t gpus, const std::vector<std::pair<std::string, std::string>>& fields) {
    Plan plan = tiny.plan();
    plan.gpus = gpus;
    plan.micro_batch = 4;
    for (const auto& [key, value] : fields) set_plan_field(plan, key, value);
    require_valid(tiny.model, tiny.cluster, plan, "");
    return plan;
  };
  return {
      {"EP2", plan_with(2, {{"ep", "2"}})},
      {"one rank", plan_with(1, {})},
      {"TP2", plan_with(2, {{"attention", "tp"}, {"attention_degree", "2"}})},
      {"PP2", plan_with(2, {{"pp", "2"}})},
      {"ZeRO-3", plan_with(2, {{"zero", "3"}})},
      {"SP2", plan_with(2, {{"attention", "sp"}, {"attention_degree", "2"}, {"ep", "2"}, {"zero", "0"}})},
      {"TP2 PP2",
       plan_with(4, {{"attention", "tp"}, {"attention_degree", "2"}, {"ep", "2"}, {"pp", "2"}, {"micro_batch", "2"}})}};
}

// A checkpoint of a training that has not begun; returns its folder.
std::string save_before_first_step(const TinyModel& tiny, const Plan& plan, const std::string& folder) {
  run_ranks(static_cast<int>(plan.gpus), [&](int rank_idx, Rendezvous& rendezvous) {
    SavingRank rank(tiny, plan, rank_idx, rendezvous, folder);
    rank.save(0);
    EXPECT_EQ(rank.checkpoints.finish(), std::vector<std::string>{});
  });
  return CheckpointFolder(folder).find_latest().folder;
}

class CheckpointsTest : public testing::TestWithParam<std::string> {};

TEST_P(CheckpointsTest, TrainingGoesOnAsIfItHadNotStopped) {
  constexpr int kStop = 2, kEnd = 4;
  const TinyModel tiny(GetParam());
  std::vector<NamedPlan> plans = plans_of(tiny);
  for (const std::size_t saver : {0u, 6u}) {
    const Plan& plan = plans[saver].plan;
    const ScratchFolder folder;
    const std::vector<double> unbroken = losses_of({.folder = folder.path(), .end = kEnd}, tiny, plan);
    losses_of({.folder = folder.path(), .end = kStop, .save_every = kStop}, tiny, plan);
    for (std::size_t resumer = saver; resumer < plans.size(); ++resumer) {
      const std::vector<double> losses =
          losses_of({.folder = folder.path(), .end = kEnd, .resumes = true}, tiny, plans[resumer].plan);
      for (std::size_t step = 0; step < kEnd; ++step) {
        const double expected = step < kStop ? 0 : unbroken[step];
        const double tolerance = resumer == saver ? 0 : 1e-5 * expected;
        EXPECT_NEAR(losses[step], expected, tolerance)
            << plans[saver].name << " to " << plans[resumer].name << ", step " << step;
      }
    }
  }
}

// All that `transformers` reads is there, and is what it was read from, to the byte.
TEST_P(CheckpointsTest, TheModelsFilesAreThoseItCameFrom) {
  const TinyModel tiny(GetParam());
  const ScratchFolder scratch;
  const NamedPlan last = plans_of(tiny).back();
  const std::string folder = save_before_first_step(tiny, last.plan, scratch.path());
  for (const char* name : {"config.json", "model.safetensors"})
    EXPECT_TRUE(read_bytes(folder + "/" + name) == read_bytes(tiny.folder + "/" + name)) << name;
  EXPECT_EQ(read_plan(folder + "/plan.json"), last.plan);

  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
  EXPECT_EQ(names,
            (std::set<std::string>{"config.json", "manifest.json", "model.safetensors", "optimizer-0.safetensors",
                                   "optimizer-1.safetensors", "optimizer-2.safetensors", "optimizer-3.safetensors",
                                   "plan.json", "training.json"}));
  EXPECT_EQ(CheckpointFolder(scratch.path()).find_latest().manifest.files.size(), names.size() - 1);
}

INSTANTIATE_TEST_SUITE_P(Families, CheckpointsTest, testing::Values("mixtral", "deepseek_v3"),
                         [](const auto& test) { return test.param; });

// A checkpoint is a folder of weights like any other, in shards as well.
TEST(Checkpoints, WeightsAreReadFromOne) {
  const TinyModel tiny("mixtral");
  const ScratchFolder scratch;
  const NamedPlan expert_parallel = plans_of(tiny).front();
  run_ranks(2, [&](int rank_idx, Rendezvous& rendezvous) {
    SavingRank rank(tiny, expert_parallel.plan, rank_idx, rendezvous, scratch.path(), {.largest_file = 100'000});
    rank.step(0);
    rank.save(1);
    rank.checkpoints.finish();
    rendezvous.barrier();  // rank 0 has committed
    const ModelReader files(scratch / "step-1");
    EXPECT_TRUE(fs::exists(scratch / "step-1/model.safetensors.index.json"));

    TinyRank read(tiny, expert_parallel.plan, rank_idx,
                  [&](GroupKind kind) -> Communicator& { return rank.communicators.of(kind); });
    load_weights(read.trainer.store(), tiny.model, files, rotary_order(tiny.numerics));
    const std::vector<StatePiece> saved = rank.rank.trainer.store().held_pieces(),
                                  found = read.trainer.store().held_pieces();
    ASSERT_EQ(found.size(), saved.size());
    for (std::size_t idx = 0; idx < saved.size(); ++idx) {
      const auto values = [](const StatePiece& piece) {
        const float* const first = piece.state(StateKind::kMaster);
        return std::vector<float>(first, first + (piece.end - piece.begin));
      };
      EXPECT_EQ(values(found[idx]), values(saved[idx]));
    }
  });
}

// Wherever all ranks are killed, the newest checkpoint that was said to be complete is there, or a newer one; and from
// there the losses are bitwise those of a training that nobody disturbed.
TEST(Checkpoints, KillsLoseNothing) {
  const TinyModel tiny("deepseek_v3");
  const Plan plan = plans_of(tiny).front().plan;
  const int num_kills = std::getenv("MSMOE_ALL_KILLS") != nullptr ? 50 : 20;
  std::vector<double> unbroken;
  {
    const ScratchFolder folder;
    unbroken = losses_of({.folder = folder.path(), .end = kMostSteps}, tiny, plan);
  }
  std::mt19937 random(1);
  auto folder = std::make_unique<ScratchFolder>();
  int saved = 0, kills_while_writing = 0, steps_compared = 0;  // saved: steps of the newest checkpoint, 0: none
  for (int kill = 0; kill < num_kills; ++kill) {
    SCOPED_TRACE("kill " + std::to_string(kill) + ", from step " + std::to_string(saved));
    const SharedRecord record;
    const Course course{.folder = folder->path(), .end = kMostSteps, .save_every = 1, .resumes = saved > 0};
    const std::vector<std::string> outcomes = outcomes_of_ranks(
        static_cast<int>(plan.gpus),
        [&](int rank, Rendezvous& rendezvous) { follow(course, tiny, plan, *record, rank, rendezvous); },
        std::chrono::seconds(60),
        [&](const std::vector<pid_t>& ranks) {
          // In one of the first steps and what is saved after it, most often; or while ranks still join or load.
          const int steps = static_cast<int>(random() % 4);
          const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
          while (kill % 5 != 4 && record->losses[static_cast<std::size_t>(saved + steps)] == 0 &&
                 std::chrono::steady_clock::now() < deadline)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          std::this_thread::sleep_for(std::chrono::microseconds(random() % (kill % 5 != 4 ? 50'000 : 300'000)));
          const std::size_t first = random() % ranks.size();
          ::kill(ranks[first], SIGKILL);
          std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
          for (const pid_t rank : ranks) ::kill(rank, SIGKILL);
        });
    for (const std::string& outcome : outcomes) EXPECT_EQ(outcome.find("expectation"), outcome.npos) << outcome;
    for (std::size_t step = 0; step < kMostSteps; ++step)
      if (const double loss = record->losses[step]; loss != 0) {
        EXPECT_EQ(loss, unbroken[step]) << "step " << step;
        ++steps_compared;
      }
    if (record->first_step >= 0) {
      EXPECT_EQ(record->first_step, saved);
    }

    for (const auto& entry : fs::directory_iterator(folder->path()))
      kills_while_writing += entry.path().filename().string().ends_with(".writing") ? 1 : 0;
    const CheckpointFolder checkpoints(folder->path());
    if (saved > 0 || record->steps_saved > 0) {
      const FoundCheckpoint found = checkpoints.find_latest();
      EXPECT_EQ(found.warnings, std::vector<std::string>{});
      EXPECT_GE(found.manifest.step, std::max(saved, record->steps_saved.load()));
      saved = static_cast<int>(found.manifest.step);
    } else {
      saved = checkpoints.steps().empty() ? 0 : static_cast<int>(checkpoints.find_latest().manifest.step);
    }
    if (saved > kMostSteps - 8) {
      folder = std::make_unique<ScratchFolder>();
      saved = 0;
    }
  }
  EXPECT_GT(steps_compared, num_kills / 4);
  EXPECT_GT(kills_while_writing, 0);
}

using Lines = std::vector<std::string>;

// No room for what one rank has to write, for what all have to, for what rank 0 assembles: training goes on, the older
// checkpoint stays, and the next one is written as ever.
TEST(Checkpoints, AFullDiskIsToldOnceAndTrainingGoesOn) {
  const TinyModel tiny("mixtral");
  const ScratchFolder scratch;
  Plan plan = tiny.plan();
  plan.gpus = plan.ep = 4;
  const std::string writing = scratch / "step-1.writing";
  const std::string refused = ": cannot be written: File too large";
  const auto model_bytes = static_cast<rlim_t>(fs::file_size(tiny.folder + "/model.safetensors"));
  const rlim_t unlimited = std::numeric_limits<rlim_t>::max();
  run_ranks(4, [&](int rank_idx, Rendezvous& rendezvous) {
    SavingRank rank(tiny, plan, rank_idx, rendezvous, scratch.path());
    rank.save(0);
    rank.step(0);
    EXPECT_EQ(rank.checkpoints.finish(), Lines{});
    const auto expect_given_up = [&](rlim_t room, const std::string& why) {
      Lines lines;
      {
        const FileLimit full_disk(room);
        EXPECT_EQ(rank.save(1), Lines{});
        lines = rank.checkpoints.finish();
      }
      EXPECT_EQ(lines, why.empty() ? Lines{} : Lines{"the checkpoint of step 1 was given up: " + why});
      rendezvous.barrier();
      EXPECT_EQ(CheckpointFolder(scratch.path()).find_latest().folder, scratch / "step-0");
      EXPECT_FALSE(fs::exists(writing));
    };
    const std::string part = writing + "/optimizer-" + std::to_string(rank_idx) + ".safetensors" + refused;
    const std::string of_others = rank_idx == 0 ? "rank 2 could not write" : "";
    expect_given_up(rank_idx == 2 ? 1000 : unlimited, rank_idx == 2 ? part : of_others);
    expect_given_up(0, part);
    expect_given_up(model_bytes - 1, rank_idx == 0 ? writing + "/model.safetensors" + refused : "");

    rank.step(1);
    EXPECT_EQ(rank.save(2), Lines{});
    EXPECT_EQ(rank.checkpoints.finish(), Lines{});
    rendezvous.barrier();
    EXPECT_EQ(CheckpointFolder(scratch.path()).find_latest().folder, scratch / "step-2");
  });
}

TEST(Checkpoints, AFolderThatCannotBeMadeIsToldByRankZero) {
  const TinyModel tiny("mixtral");
  const ScratchFolder scratch;
  write_bytes(scratch / "taken", "a file");
  run_ranks(2, [&](int rank_idx, Rendezvous& rendezvous) {
    SavingRank rank(tiny, plans_of(tiny).front().plan, rank_idx, rendezvous, scratch / "taken");
    const Lines lines = rank.save(0);
    EXPECT_EQ(rank.checkpoints.finish(), Lines{});
    ASSERT_EQ(lines.size(), rank_idx == 0 ? 1u : 0u);
    for (const std::string& line : lines)
      EXPECT_TRUE(line.starts_with("the checkpoint of step 0 was given up: ")) << line;
  });
}

// The thread that commits is held up until the training has made its next step; the next checkpoint waits for it.
TEST(Checkpoints, TrainingGoesOnWhileOneIsWritten) {
  const TinyModel tiny("mixtral");
  const ScratchFolder scratch;
  run_ranks(2, [&](int rank_idx, Rendezvous& rendezvous) {
    std::atomic<bool> went_on = false;
    const CheckpointOptions held_up{.after_step = [&](const std::string&) { went_on.wait(false); }};
    SavingRank rank(tiny, plans_of(tiny).front().plan, rank_idx, rendezvous, scratch.path(), {.folder = held_up});
    EXPECT_EQ(rank.save(0), Lines{});
    rank.step(0);
    EXPECT_EQ(CheckpointFolder(scratch.path()).steps(), std::vector<std::int64_t>{});
    rendezvous.barrier();
    went_on = true;
    went_on.notify_one();
    EXPECT_EQ(rank.save(1), Lines{});
    EXPECT_EQ(CheckpointFolder(scratch.path()).steps().front(), 0);
    EXPECT_EQ(rank.checkpoints.finish(), Lines{});
  });
}

// Rank 1 does what save() does with the others, and writes nothing.
TEST(Checkpoints, RanksThatDoNotWriteAreNamed) {
  const TinyModel tiny("mixtral");
  const ScratchFolder scratch;
  run_ranks(2, [&](int rank_idx, Rendezvous& rendezvous) {
    SavingRank rank(tiny, plans_of(tiny).front().plan, rank_idx, rendezvous, scratch.path(),
                    {.patience = std::chrono::milliseconds(300)});
    if (rank_idx == 1) {
      for (int exchange = 0; exchange < 2; ++exchange) rendezvous.exchange("");
      return;
    }
    EXPECT_EQ(rank.save(0), Lines{});
    EXPECT_EQ(rank.checkpoints.finish(), Lines{"the checkpoint of step 0 was given up: rank 1 did not write in 0.3 s"});
    EXPECT_TRUE(fs::is_empty(scratch.path()));
  });
}

// ---- Damage: checkpoints of steps 0 and 1, loaded by two ranks.

class DamagedCheckpoints : public testing::Test {
 protected:
  DamagedCheckpoints() : tiny_("mixtral"), plan_(plans_of(tiny_).front().plan) {
    run_ranks(2, [&](int rank_idx, Rendezvous& rendezvous) {
      SavingRank rank(tiny_, plan_, rank_idx, rendezvous, scratch_.path());
      rank.save(0);
      rank.save(1);
      EXPECT_EQ(rank.checkpoints.finish(), Lines{});
    });
  }
  static void flip_a_bit(const std::string& path) {
    std::string bytes = read_bytes(path);
    bytes[bytes.size() / 2] ^= 1;
    write_bytes(path, bytes);
  }
  // Both ranks take step 0, and rank 0 tells why.
  void expect_older_one(const std::string& warning) const {
    run_ranks(2, [&](int rank_idx, Rendezvous& rendezvous) {
      SavingRank rank(tiny_, plan_, rank_idx, rendezvous, scratch_.path());
      const ResumedTraining resumed = rank.checkpoints.load();
      EXPECT_EQ(resumed.folder, scratch_ / "step-0");
      EXPECT_EQ(resumed.state, state_of(plan_, 0));
      ASSERT_EQ(resumed.warnings.size(), rank_idx == 0 ? 1u : 0u);
      for (const std::string& line : resumed.warnings) EXPECT_TRUE(line.starts_with(warning)) << line;
    });
  }
  // What both ranks are told when `tiny` is to be loaded.
  void expect_refusal(const TinyModel& tiny, const std::string& begin) const {
    run_ranks(2, [&](int rank_idx, Rendezvous& rendezvous) {
      SavingRank rank(tiny, plans_of(tiny).front().plan, rank_idx, rendezvous, scratch_.path());
      try {
        rank.checkpoints.load();
        ADD_FAILURE() << "loaded";
      } catch (const UserError& error) {
        EXPECT_TRUE(std::string(error.what()).starts_with(begin)) << error.what();
      }
    });
  }

  TinyModel tiny_;
  Plan plan_;
  ScratchFolder scratch_;
};

TEST_F(DamagedCheckpoints, AFlippedBitIsToldAndTheOlderOneTaken) {
  flip_a_bit(scratch_ / "step-1/optimizer-1.safetensors");
  expect_older_one(scratch_ / "step-1/optimizer-1.safetensors: has checksum ");
}

TEST_F(DamagedCheckpoints, ACutFileIsToldAndTheOlderOneTaken) {
  fs::resize_file(scratch_ / "step-1/model.safetensors", 1000);
  expect_older_one(scratch_ / "step-1/model.safetensors: has 1000 bytes");
}

TEST_F(DamagedCheckpoints, NoGoodOneIsRefusedOnAllRanks) {
  flip_a_bit(scratch_ / "step-0/training.json");
  fs::remove(scratch_ / "step-1/optimizer-0.safetensors");
  expect_refusal(tiny_, scratch_.path() + ": holds no good checkpoint: " + scratch_.path() +
                            "/step-1/optimizer-0.safetensors: missing");
}

TEST_F(DamagedCheckpoints, AnotherModelIsRefused) {
  expect_refusal(TinyModel("qwen3_moe"), scratch_ /
                                             "step-1/config.json: model_type: the checkpoint has mixtral, the "
                                             "model qwen3_moe; ");
}

}  // namespace
}  // namespace msmoe::executor
