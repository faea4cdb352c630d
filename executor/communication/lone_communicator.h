// The communicator of one rank: collectives are copies, and there is nobody to send to.
#pragma once

#include <memory>

#include "executor/communication/communicator.h"

namespace msmoe::executor {

std::unique_ptr<Communicator> lone_communicator();

}  // namespace msmoe::executor
