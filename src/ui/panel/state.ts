/** What the panel measures, what it has measured, and what it is doing. */
import { signal } from '@preact/signals';
import type { BenchFile, BenchRequest } from '../../../bench/figures';
import type { ProbedGpu } from '../../../workers/bench-protocol';
import { BenchClient } from '../../api/bench-client';
import { lastModelUrl } from '../state/preferences';
import { defaultShape, namesShape, offeredSchemes, requestFromQuery, requestQuery } from './request-link';

type Activity =
  | { readonly kind: 'probing' }
  | { readonly kind: 'idle' }
  | { readonly kind: 'running'; readonly step: string; readonly figures: number }
  | { readonly kind: 'unavailable'; readonly message: string };

const query = new URLSearchParams(location.search);

/** The form's choice of schemes. */
export const schemesOffered = offeredSchemes(location.search);
export const request = signal<BenchRequest>(requestFromQuery(location.search));
/** What the suites `load` and `demo` use: the address's model, else the one chatted with last, else a bundled one. */
export const modelUrl = signal(
  new URL(query.get('model') ?? (lastModelUrl.value || 'models/demo-chat-8m-w4a4/'), document.baseURI).href,
);
export const activity = signal<Activity>({ kind: 'probing' });
export const gpu = signal<ProbedGpu | null>(null);
export const result = signal<BenchFile | null>(null);
export const problem = signal<string | null>(null);

export const client = new BenchClient();

/** Finds the adapter, and the shape that suits it where the address names none. */
export async function start(): Promise<void> {
  try {
    const probed = await client.probe();
    if (!namesShape(location.search)) request.value = { ...request.value, shape: defaultShape(probed) };
    gpu.value = probed;
    activity.value = { kind: 'idle' };
    if (query.has('run')) await run();
  } catch (error) {
    activity.value = { kind: 'unavailable', message: messageOf(error) };
  }
}

/** Measures what `request` says. What a cancelled run had measured is not shown: it would be compared with whole runs. */
export async function run(): Promise<void> {
  if (activity.value.kind === 'running') return;
  problem.value = null;
  result.value = null;
  let figures = 0;
  let step = 'starting';
  const tell = () => {
    activity.value = { kind: 'running', step, figures };
  };
  tell();
  const adapterName = query.get('adapter');
  try {
    const wanted = { ...request.value, modelUrl: modelUrl.value, ...(adapterName ? { adapterName } : {}) };
    result.value = await client.run(wanted, (event) => {
      if (event.kind === 'step') step = event.text;
      else figures++;
      if (activity.value.kind === 'running') tell();
    });
  } catch (error) {
    problem.value = messageOf(error);
  } finally {
    activity.value = { kind: 'idle' };
  }
}

export function cancel(): void {
  client.cancel();
}

/** The address that reproduces the present request. */
export function reproducingLink(): string {
  const address = new URL(location.pathname, location.href);
  address.search = `${requestQuery(request.value)}&${new URLSearchParams({ model: modelUrl.value })}`;
  return address.href;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
