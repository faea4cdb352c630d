# cmake --install: programs, libraries, headers and data, and what find_package(msmoe) reads.
include(CMakePackageConfigHelpers)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/msmoe)
set(DATA_FOLDER ${CMAKE_INSTALL_DATADIR}/msmoe)

install(DIRECTORY models clusters plans DESTINATION ${DATA_FOLDER}
  FILES_MATCHING PATTERN "*.json" PATTERN "*.txt")
install(EXPORT msmoe NAMESPACE msmoe:: FILE msmoeTargets.cmake DESTINATION ${package_folder})

configure_package_config_file(cmake/msmoeConfig.cmake.in msmoeConfig.cmake INSTALL_DESTINATION ${package_folder}
  PATH_VARS DATA_FOLDER)
# Before 1.0 any minor release may change an interface.
write_basic_package_version_file(msmoeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/msmoeConfig.cmake ${PROJECT_BINARY_DIR}/msmoeConfigVersion.cmake
  cmake/FindOpenBLAS.cmake
  DESTINATION ${package_folder})
