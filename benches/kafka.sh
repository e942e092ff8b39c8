# Sourced by the benches that drain a real Kafka: looks for the tools, builds, and gives them a folder and a broker that go
# at the end. `bench` is the name for messages.

bench=benches/$(basename "$0")
dir='' brokers=''

# need PACKAGES TOOL…: ends the bench if a tool is missing. Fetching Kafka is left to tests/run.
need() {
  local packages=$1 tool cache
  shift
  for tool in "$@"; do
    command -v "$tool" >/dev/null || { echo "$bench: $tool is missing (apt-get install $packages)" >&2; exit 1; }
  done
  cache=${AADSTREAM_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/aadstream-tests}
  AADSTREAM_KAFKA_JARS=$(ls -d "$cache"/kafka-* 2>/dev/null | head -1)
  [ -n "$AADSTREAM_KAFKA_JARS" ] || { echo "$bench: no Kafka in $cache; run tests/run e2e once" >&2; exit 1; }
  export AADSTREAM_KAFKA_JARS
  dir=$(mktemp -d)
  trap 'tests/kafka/broker stop "$dir/broker" || true; rm -rf "$dir"' EXIT
}

# start_broker [SED]: with the settings that the sed script makes of the usual ones.
start_broker() {
  local ports
  read -r -a ports < <(python3 -c 'import random; print(*random.sample(range(10000, 20000), 7))')
  tests/kafka/broker format "$dir/broker" "${ports[@]}"
  [ $# -eq 0 ] || sed -i "$1" "$dir/broker/server.properties"
  tests/kafka/broker start "$dir/broker"
  brokers=127.0.0.1:${ports[0]}
}

# create TOPIC PARTITIONS
create() {
  java -cp "$AADSTREAM_KAFKA_JARS/*" org.apache.kafka.tools.TopicCommand --bootstrap-server "$brokers" \
    --create --topic "$1" --partitions "$2" > /dev/null 2>&1
}

# fill TOPIC CODEC: with the lines of $dir/corpus.
fill() {
  kcat -P -b "$brokers" -t "$1" -l "$dir/corpus" -X compression.codec="$2" -X linger.ms=50 -X batch.size=1000000 \
    -X sticky.partitioning.linger.ms=0 > "$dir/kcat.log" 2>&1
}
