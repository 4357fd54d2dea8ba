import type { ModelInfo } from '../../../workers/protocol';
import { bytesText } from '../../gpu/bytes-text';
import { formatBytes } from '../format';

/** The loaded model in figures. */
export function ModelFacts({ info }: { readonly info: ModelInfo }) {
  const gpuBytes = Object.values(info.gpuBytes).reduce((sum, bytes) => sum + bytes, 0);
  const came =
    info.networkBytes === 0 ? 'nothing downloaded' : `${formatBytes(info.networkBytes)} downloaded`;
  const facts = [
    ['Name', info.name],
    ['Scheme', info.actBits === null ? info.scheme : `${info.scheme}, W${info.weightBits}A${info.actBits}`],
    ['Context', `${info.contextLength} tokens`],
    ['Files', `${formatBytes(info.artifactBytes)}, ${came}`],
    ['GPU memory', bytesText(gpuBytes)],
  ] as const;
  return (
    <>
      <h3>Model</h3>
      <dl class="facts" data-testid="model-facts">
        {facts.map(([term, fact]) => (
          <div key={term}>
            <dt>{term}</dt>
            <dd>{fact}</dd>
          </div>
        ))}
      </dl>
      {info.storageProblem && (
        <p class="notice" data-testid="storage-problem">
          The browser did not keep the files, so the next visit downloads them again ({info.storageProblem}).
        </p>
      )}
    </>
  );
}
