// msmoe-run: trains a model under a plan, for real.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "core/error.h"
#include "core/version.h"
#include "executor/job/job.h"
#include "reports/tool.h"

namespace {

constexpr const char* kExamples =
    "Trains a model under a plan.\n\n"
    "Examples:\n"
    "  msmoe-plan tiny-moe --cluster cpu --gpus 2 --global-batch 8 --seq-len 256 -o plan.json\n"
    "  msmoe-run plan.json --data book.txt --steps 1000 --checkpoint-dir out --checkpoint-every 100\n"
    "  msmoe-run plan.json --data synthetic --steps 20\n"
    "  torchrun --nnodes 2 --nproc-per-node 8 --no-python msmoe-run plan.json --data corpus_text --steps 1000";

}  // namespace

int main(int argc, char** argv) {
  msmoe::executor::RunOptions options;
  CLI::App app(kExamples, "msmoe-run");
  app.set_version_flag("--version", std::string("msmoe-run ") + msmoe::kVersion);
  app.add_option("PLAN", options.plan, "a plan file, or the name of a plan that ships")->required();
  app.add_option("--data", options.data, "text, Megatron's .bin/.idx, llm.c's .bin, a folder of these, or synthetic")
      ->required();
  app.add_option("--steps", options.steps, "of the whole training, resumed or not")->required();
  app.add_option("--backend", options.backend, "cpu|cuda; the one that has the plan's precision where it is left out");
  app.add_option("--nproc", options.nproc, "ranks on this host; the plan's number");
  app.add_option("--from", options.from, "start from the weights of this folder (Hugging Face's layout)");
  app.add_option("--checkpoint-dir", options.checkpoint_dir, "write checkpoints here, the last one at the end");
  app.add_option("--checkpoint-every", options.checkpoint_every, "steps between checkpoints");
  app.add_flag("--resume", options.resume, "go on from the newest good checkpoint, under this or another plan");
  app.add_option("--metrics", options.metrics, "write a JSON object a step here");
  app.add_option("--tensorboard", options.tensorboard, "write event files for TensorBoard into this folder");
  app.add_option("--trace", options.trace, "write the timeline of the second step, for Perfetto");
  app.add_flag("--deterministic", options.deterministic, "repeat to the bit; CPUs always do");
  app.add_flag("--dry-run", options.dry_run, "check everything, print what would run");

  app.add_option("--seed", options.seed, "of weights and of the order of the data")->capture_default_str();
  app.add_option("--lr", options.rate, "peak learning rate")->capture_default_str();
  app.add_option("--min-lr", options.min_rate, "where the cosine ends")->capture_default_str();
  app.add_option("--warmup", options.warmup, "steps of linear warm-up")->capture_default_str();
  app.add_option("--weight-decay", options.decay, "of matrices")->capture_default_str();
  app.add_option("--beta1", options.beta1, "of AdamW")->capture_default_str();
  app.add_option("--beta2", options.beta2, "of AdamW")->capture_default_str();
  app.add_option("--epsilon", options.epsilon, "of AdamW")->capture_default_str();
  app.add_option("--clip", options.clip, "largest gradient norm; 0: any")->capture_default_str();
  app.add_option("--aux-loss", options.auxiliary, "coefficient of the load-balance loss; what config.json says");
  app.add_option("--z-loss", options.z, "coefficient of the router's z loss")->capture_default_str();
  app.add_option("--balance-rate", options.bias_rate, "of router biases that balance experts without a loss")
      ->capture_default_str();
  app.add_option("--validation", options.validation, "data that nothing is learned from");
  app.add_option("--validate-every", options.validate_every, "steps; 0: only at the end")->capture_default_str();
  app.add_option("--validation-batches", options.validation_batches, "global batches that it is measured on")
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    fmt::print(stderr, "msmoe-run: {}; see msmoe-run --help\n", error.what());
    return msmoe::kExitUsage;
  }
  options.arguments.assign(argv + 1, argv + argc);
  return msmoe::reports::run_tool("msmoe-run", false, [&] { return msmoe::executor::run_job(options); });
}
