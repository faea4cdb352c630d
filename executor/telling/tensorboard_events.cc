#include "executor/telling/tensorboard_events.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "core/error.h"
#include "executor/telling/event_proto.h"
#include "executor/telling/tf_record.h"

namespace msmoe::executor {
namespace {

namespace fs = std::filesystem;

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

// A process may begin two files in a second; the second one has a number behind its name, as TensorFlow's have.
std::string unused_path(const std::string& folder, const EventOrigin& origin) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw UserError(folder, "", "cannot be made: " + error.message());
  const fs::path path =
      fs::path(folder) / fmt::format("events.out.tfevents.{:010}.{}.{}", static_cast<std::int64_t>(origin.clock()),
                                     origin.host, origin.process_id);
  std::string name = path.string();
  for (int number = 1; fs::exists(name, error); ++number) name = fmt::format("{}.{}", path.string(), number);
  return name;
}

}  // namespace

EventOrigin this_process() {
  return {.clock =
              [] { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); },
          .host = host_name(),
          .process_id = ::getpid()};
}

TensorBoardEvents::TensorBoardEvents(const std::string& folder, std::int64_t first_step, MfuBasis basis,
                                     EventOrigin origin)
    : origin_(std::move(origin)),
      basis_(basis),
      path_(unused_path(folder, origin_)),
      file_(path_, AppendedFile::Open::kMustBeNew) {
  file_.append(tf_record(file_version_event(origin_.clock())));
  if (first_step > 1) file_.append(tf_record(session_start_event(origin_.clock(), first_step)));
}

void TensorBoardEvents::tell(const StepMetrics& metrics) {
  std::vector<Scalar> scalars;
  for (const NamedValue& named : named_values(metrics, basis_))
    if (named.value && std::string_view(named.name) != "step")
      scalars.push_back({std::string("train/") + named.name, static_cast<float>(*named.value)});
  file_.append(tf_record(scalars_event(origin_.clock(), metrics.step, scalars)));
}

}  // namespace msmoe::executor
