import { type ChatEngine, createEngine } from 'mergequant-web';
import { useEffect, useState } from 'react';

interface EngineState {
  readonly engine: ChatEngine | null;
  /** What loading is at, or why it failed. */
  readonly status: string;
}

/** Loads the model at `url`, and frees the GPU when the component goes. */
export function useEngine(url: string): EngineState {
  const [state, setState] = useState<EngineState>({ engine: null, status: 'loading' });
  useEffect(() => {
    const abort = new AbortController();
    let loaded: ChatEngine | null = null;
    createEngine({
      model: url,
      signal: abort.signal,
      onProgress: ({ phase, doneBytes, totalBytes }) => {
        const percent = totalBytes > 0 ? `, ${Math.round((100 * doneBytes) / totalBytes)} %` : '';
        if (!abort.signal.aborted) setState({ engine: null, status: `${phase}${percent}` });
      },
      onFailure: (error) => setState({ engine: null, status: `${error.name}: ${error.message}` }),
    }).then(
      (engine) => {
        loaded = engine;
        if (abort.signal.aborted) engine.destroy();
        else setState({ engine, status: 'ready' });
      },
      (error: Error) => {
        if (!abort.signal.aborted) setState({ engine: null, status: `${error.name}: ${error.message}` });
      },
    );
    return () => {
      abort.abort();
      loaded?.destroy();
    };
  }, [url]);
  return state;
}
