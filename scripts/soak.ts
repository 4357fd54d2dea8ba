/**
 * A long run of the engine behind its worker's host: replies in random order with cancels, reloads, lost devices, a network that
 * drops and flips, and stored shards that rot. Every reply that is allowed to end must be the reference's, token by token, and
 * nothing may pile up on the GPU.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { Fault } from '../e2e/fault-server';
import { type TinyArtifact, tinyArtifact } from '../e2e/tiny-artifact';
import { parseManifest } from '../src/format/parse-manifest';
import { seededRandom } from '../src/format/random';
import { nodeGpuEntry } from '../src/gpu/node';
import { gpuWith, startTestHost, type TestHost } from '../workers/testing';

export interface SoakOptions {
  readonly replies: number;
  readonly seed: number;
  /** An artifact folder; the tiny model without one. */
  readonly folder?: string;
  readonly maxTokens: number;
  /** Devices to lose, spread over the run: each one compiles every kernel anew. */
  readonly lostDevices: number;
}

export interface SoakReport {
  readonly replies: number;
  /** Replies held against the reference, token by token. */
  readonly compared: number;
  readonly cancelled: number;
  readonly reloads: number;
  readonly networkFaults: number;
  readonly rottenShards: number;
  readonly lostDevices: number;
  readonly refusedPrompts: number;
  /** What should not have happened. */
  readonly problems: readonly string[];
  /** GPU buffers that live with the model loaded, after the first load and at the end. */
  readonly gpuBuffers: readonly [first: number, last: number];
  readonly gpuBytes: readonly [first: number, last: number];
  /** JavaScript heap in MB after the first tenth and at the end. */
  readonly heapMb: readonly [early: number, last: number];
  readonly seconds: number;
}

const prompts = [
  'Hello',
  'The weather in Chicago',
  'I want to find a restaurant in San Jose.',
  'Tell me a story about 1234 tables.',
  'Wie schön, daß Größe zählt.',
];

type Counts = {
  -readonly [Key in
    | 'compared'
    | 'cancelled'
    | 'reloads'
    | 'networkFaults'
    | 'rottenShards'
    | 'lostDevices'
    | 'refusedPrompts']: number;
};

class Soak {
  readonly counts: Counts = {
    ...{ compared: 0, cancelled: 0, reloads: 0, networkFaults: 0 },
    ...{ rottenShards: 0, lostDevices: 0, refusedPrompts: 0 },
  };
  readonly problems: string[] = [];
  readonly buffers = new Set<GPUBuffer>();
  readonly next: () => number;
  device: GPUDevice | undefined;
  #references: number[][] = [];
  #tested: TestHost | undefined;

  constructor(readonly options: SoakOptions) {
    this.next = seededRandom(options.seed);
  }

  async run(): Promise<SoakReport> {
    const start = performance.now();
    const { replies, folder, lostDevices } = this.options;
    const gpu = gpuWith(await nodeGpuEntry(), (device) => this.#watch(device));
    this.#tested = await startTestHost(gpu, folder ? readArtifact(folder) : tinyArtifact());
    await this.#tested.load();
    for (const prompt of prompts) this.#references.push([...(await this.#ask(prompt)).tokenIds]);
    const first = this.#footprint();
    let early = first.heapMb;
    const losses = new Set(
      Array.from({ length: lostDevices }, (_, i) => Math.floor(((i + 0.5) * replies) / lostDevices)),
    );
    for (let reply = 0; reply < replies; reply++) {
      if (reply % 100 === 99)
        console.log(`${reply + 1} replies`, JSON.stringify(this.counts), this.problems.length, 'problems');
      if (reply === Math.floor(replies / 10)) early = this.#footprint().heapMb;
      await (losses.has(reply) ? this.#loseDevice() : this.#step()).catch((error) =>
        this.problems.push(`reply ${reply}: ${error}`),
      );
    }
    const last = this.#footprint();
    await this.#tested.host.unload();
    if (this.buffers.size > 0)
      this.problems.push(`${this.buffers.size} GPU buffers live after the model is gone`);
    await this.#tested.server.close();
    return {
      ...{ replies, ...this.counts, problems: this.problems },
      ...{
        gpuBuffers: [first.buffers, last.buffers],
        gpuBytes: [first.bytes, last.bytes],
        heapMb: [early, last.heapMb],
      },
      seconds: Math.round((performance.now() - start) / 1000),
    };
  }

  #watch(device: GPUDevice): void {
    this.device = device;
    const create = device.createBuffer.bind(device);
    device.createBuffer = (descriptor) => {
      const buffer = create(descriptor);
      this.buffers.add(buffer);
      const destroy = buffer.destroy.bind(buffer);
      buffer.destroy = () => {
        this.buffers.delete(buffer);
        destroy();
      };
      return buffer;
    };
    device.lost.then(() => {
      for (const buffer of this.buffers) if (this.device === device) this.buffers.delete(buffer);
    });
  }

  #footprint() {
    // token staging buffers grow with the speed that was met, up to 32 of 4 bytes
    const kept = [...this.buffers].filter(({ label }) => label !== 'token');
    const bytes = kept.reduce((sum, { size }) => sum + size, 0);
    globalThis.gc?.();
    return { buffers: kept.length, bytes, heapMb: Math.round(process.memoryUsage().heapUsed / 1e6) };
  }

  #ask(prompt: string, onDelta?: () => void) {
    return this.#tested!.ask(prompt, this.options.maxTokens, onDelta);
  }

  async #step(): Promise<void> {
    const dice = this.next();
    if (dice < 0.15) await this.#cancel();
    else if (dice < 0.2) await this.#reload();
    else if (dice < 0.23) await this.#refuse();
    else await this.#compare();
  }

  async #compare(): Promise<void> {
    const which = Math.floor(this.next() * prompts.length);
    const { tokenIds } = await this.#ask(prompts[which]!);
    this.counts.compared++;
    if (tokenIds.join() !== this.#references[which]!.join()) {
      this.problems.push(`"${prompts[which]}": expected ${this.#references[which]}, got ${tokenIds}`);
    }
  }

  /** Cancels after a few deltas, or at once; what came must be the reference's beginning. */
  async #cancel(): Promise<void> {
    const which = Math.floor(this.next() * prompts.length);
    let left = Math.floor(this.next() * 3);
    const reply = this.#ask(prompts[which]!, () => {
      if (left-- <= 0) this.#tested!.host.cancel();
    });
    if (left === 0) this.#tested!.host.cancel();
    const { tokenIds } = await reply;
    this.counts.cancelled++;
    const expected = this.#references[which]!.slice(0, tokenIds.length);
    if (tokenIds.join() !== expected.join())
      this.problems.push(`a cancelled reply begins ${tokenIds}, not ${expected}`);
  }

  /** Loads again after something happened to the store or the network. */
  async #reload(): Promise<void> {
    const { environment, artifact, server } = this.#tested!;
    const shards = artifact.manifest.shards;
    const shard = shards[Math.floor(this.next() * shards.length)]!;
    const kind = Math.floor(this.next() * 3);
    if (kind === 1) {
      const bytes = new Uint8Array(environment.shardMap.get(shard.sha256)!);
      bytes[Math.floor(this.next() * bytes.length)]! ^= 1;
      this.counts.rottenShards++;
    } else if (kind === 2) {
      environment.shardMap.delete(shard.sha256);
      const faults: Fault[] = [
        { kind: 'drop', afterBytes: Math.floor(this.next() * shard.bytes) },
        { kind: 'flip', bit: Math.floor(this.next() * shard.bytes * 8) },
        { kind: 'status', status: 503 },
      ];
      server.faults.set(shard.name, [faults[Math.floor(this.next() * faults.length)]!]);
      this.counts.networkFaults++;
    }
    await this.#tested!.load();
    this.counts.reloads++;
  }

  async #refuse(): Promise<void> {
    this.counts.refusedPrompts++;
    const error = await this.#ask('Hello '.repeat(3000)).catch((refusal) => refusal);
    if (error?.name !== 'ContextFullError') this.problems.push(`a prompt too long gave ${error}`);
  }

  /** Destroys the device behind its next `submits`th submit: in the middle of a reply, however fast that is. */
  #destroyWithin(submits: number): void {
    const device = this.device!;
    const submit = device.queue.submit.bind(device.queue);
    let left = submits;
    device.queue.submit = (buffers) => {
      submit(buffers);
      if (--left === 0) device.destroy();
    };
  }

  async #loseDevice(): Promise<void> {
    this.counts.lostDevices++;
    this.#destroyWithin(3);
    const error = await this.#ask(prompts[1]!).catch((failure) => failure);
    if (error?.name !== 'DeviceLostError') this.problems.push(`a lost device gave ${error}`);
    await this.#tested!.load();
    await this.#compare();
  }
}

/** An artifact folder as the fault server serves it. */
function readArtifact(folder: string): TinyArtifact {
  const files = new Map(
    readdirSync(folder).map((name) => [name, new Uint8Array(readFileSync(`${folder}/${name}`))]),
  );
  const manifest = parseManifest(
    JSON.parse(new TextDecoder().decode(files.get('manifest.json'))),
    'manifest.json',
  );
  return { manifest, files };
}

export function soak(options: SoakOptions): Promise<SoakReport> {
  return new Soak(options).run();
}
