# shellcheck shell=bash
# Stands where the script of NNAL's ATB stands; see ascend-toolkit/set_env.sh beside it.
export ATB_HOME_PATH=/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_1
export LD_LIBRARY_PATH=${ATB_HOME_PATH}/lib:${ATB_HOME_PATH}/examples:$LD_LIBRARY_PATH
if [ -z "$ATB_STREAM_SYNC_EVERY_KERNEL_ENABLE" ]; then
    export ATB_STREAM_SYNC_EVERY_KERNEL_ENABLE=0
fi
export ATB_OPSRUNNER_SETUP_CACHE_ENABLE=1
