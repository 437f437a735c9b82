#!/usr/bin/env bash
# Foundry's cast against the embedded chain: reads, legacy and EIP-1559 transactions, the market's contracts, logs.
# usage: chain.sh CAST (the chain is at LETHE_RPC_URL)
set -euo pipefail
# shellcheck source=check.sh
source "$(dirname "${BASH_SOURCE[0]}")/check.sh"

readonly CAST=$1
readonly SETTLEMENT=0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003
# Development accounts of every test chain; their keys are published.
readonly FIRST=0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266
readonly FIRST_KEY=0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80
readonly SECOND=0x70997970C51812dc3A010C7d01b50e0d17dc79C8
# The tenth deployed the market: MOR first, then the registry.
readonly DEPLOYER=0xa0Ee7A142d267C1f36714E4a8F75612F20a79720

export ETH_RPC_URL=$LETHE_RPC_URL
cast() { timeout 20 "$CAST" "$@"; }
deployed() { cast compute-address --nonce "$1" "$DEPLOYER" | grep -o '0x[0-9a-fA-F]*$'; }

chain_id() { want "$(cast chain-id)" 31337; }

blocks() {
  local latest
  latest=$(cast block-number)
  ((latest > 10))
  want "$(cast block "$latest" --field number)" "$latest"
}

one_wei() {
  local before after receipt
  before=$(cast balance "$SECOND")
  receipt=$(cast send "$@" --private-key "$FIRST_KEY" "$SECOND" --value 1 --json)
  after=$(cast balance "$SECOND")
  want "$(field status <<<"$receipt")" 0x1
  want "$(cast receipt "$(field transactionHash <<<"$receipt")" gasUsed)" 21000
  # Too long for the shell's numbers.
  want "$(python3 -c "print($after - $before)")" 1
}

contracts() {
  local mor registry
  mor=$(deployed 0)
  registry=$(deployed 1)
  want "$(cast call "$mor" 'symbol()(string)')" '"MOR"'
  want "$(cast call "$mor" 'totalSupply()(uint256)' | cut -d' ' -f1)" 42000000000000000000000000
  want "$(cast call "$registry" 'getToken()(address)')" "$mor"
  cast call "$registry" 'getActiveProviders(uint256,uint256)(address[],uint256)' 0 10 | grep -qx 5
  want "$(cast call "$SETTLEMENT" 'MIN_WITHDRAW_DELAY()(uint256)')" 900
}

estimates() {
  want "$(cast estimate --from "$FIRST" "$SECOND" --value 1)" 21000
  local gas
  gas=$(cast estimate --from "$FIRST" "$(deployed 0)" 'transfer(address,uint256)' "$SECOND" 1)
  ((gas > 21000 && gas < 100000))
}

reverts() {
  local said
  if said=$(cast estimate --from "$SECOND" "$(deployed 0)" 'transfer(address,uint256)' "$FIRST" 1 2>&1); then
    echo "an account without MOR sent MOR: $said" >&2
    return 1
  fi
  match "$said" 'revert'
}

# At least one deposit: an answer was bought before this runs.
logs() {
  local found
  found=$(cast logs --from-block 0 --address "$SETTLEMENT" 'Deposited(bytes32 indexed,address indexed,uint128,uint128)' --json)
  (($(python3 -c 'import json, sys; print(len(json.load(sys.stdin)))' <<<"$found") > 0))
}

poor() {
  local said
  if said=$(cast send --private-key "$FIRST_KEY" "$SECOND" --value 1000000ether 2>&1); then
    return 1
  fi
  match "$said" 'nsufficient funds'
}

check "cast: the chain's id" chain_id
check "cast: blocks" blocks
check "cast: a legacy transaction" one_wei --legacy
check "cast: an EIP-1559 transaction" one_wei
check "cast: the market's contracts" contracts
check "cast: estimates" estimates
check "cast: a revert is said" reverts
check "cast: more than one has is refused" poor
check "cast: logs of deposits" logs
exit "$failed"
