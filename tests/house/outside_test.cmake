# Installs the build into a folder inside it, then configures, builds and runs an outside project against that.
# Mixtral-8x7B has 46,702,792,704 parameters, as its publisher's weights hold; one task of 1,000 ps takes 1,000 ps.
cmake_minimum_required(VERSION 3.25)
set(folder ${BUILD}/outside)
file(REMOVE_RECURSE ${folder})

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGV}: ${status}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

set(flags "")
if(SANITIZE)
  set(flags -fsanitize=${SANITIZE})
endif()
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${folder}/prefix)
run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR}/outside -B ${folder}/build -G ${GENERATOR}
  -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_CXX_FLAGS=${flags} -DCMAKE_PREFIX_PATH=${folder}/prefix)
run(${CMAKE_COMMAND} --build ${folder}/build)
run(${CMAKE_COMMAND} -E env MSMOE_DATA_DIR=${folder}/prefix/share/msmoe ${folder}/build/outside)
if(NOT output STREQUAL "46702792704 parameters\n1000 ps\n")
  message(FATAL_ERROR "the outside project printed: ${output}")
endif()

# An installed program finds the data beside it: this copy of a model is nowhere else.
set(models ${folder}/prefix/share/msmoe/models)
configure_file(${models}/mixtral-8x7b.json ${models}/only-here.json COPYONLY)
run(${folder}/prefix/bin/msmoe-plan only-here --cluster h100 --gpus 64 --global-batch 64 --seq-len 4096)
