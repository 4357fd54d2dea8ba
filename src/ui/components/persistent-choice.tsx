import type { PersistentReport } from '../../../workers/protocol';
import { loadedModel, reload } from '../state/model';
import { persistentDecode } from '../state/preferences';

/** Whether tokens are written in one dispatch each, and what came of it with the loaded model. */
export function PersistentChoice() {
  const report = loadedModel.value?.persistentDecode;
  return (
    <fieldset class="choice choice-lines" aria-describedby="persistent-hint">
      <legend>Speed of writing</legend>
      <label>
        <input
          type="checkbox"
          data-testid="persistent-decode"
          checked={persistentDecode.value}
          onChange={(event) => {
            persistentDecode.value = event.currentTarget.checked;
            reload();
          }}
        />
        One GPU program per token
      </label>
      {report && <p data-testid="persistent-report">{outcome(report)}</p>}
      <p class="setting-hint" id="persistent-hint">
        Runs all layers of a token in one program whose parts wait for each other, where they are otherwise
        started one by one. It is tried on the loaded model and kept if every result is the same to the last
        bit and it is faster; should it ever get stuck, the reply ends with an error and the ordinary programs
        take over. Changing this loads the model again.
      </p>
    </fieldset>
  );
}

function outcome(report: PersistentReport): string {
  return report.isOn ? `In use, on ${report.groups} workgroups.` : `Not in use: ${report.reason}.`;
}
