import { useEffect, useRef } from 'preact/hooks';
import { useFocusReturn } from '../focus-return';
import { loadedModel } from '../state/model';
import { type Theme, theme, themes } from '../state/preferences';
import { change, resetSettings, type Settings, settings } from '../state/settings';
import { KvCacheChoice } from './kv-cache-choice';
import { ModelFacts } from './model-facts';
import { PersistentChoice } from './persistent-choice';
import { StoredModels } from './stored-models';

type NumberKey = Exclude<keyof Settings, 'systemPrompt'>;

interface NumberSetting {
  readonly key: NumberKey;
  readonly label: string;
  readonly hint: string;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  /** Empty is allowed and means null. */
  readonly optional?: boolean;
}

const numberSettings: readonly NumberSetting[] = [
  {
    key: 'temperature',
    label: 'Temperature',
    hint: '0 always takes the likeliest token',
    min: 0,
    max: 2,
    step: 0.05,
  },
  {
    key: 'topK',
    label: 'Top-k',
    hint: 'keep the k likeliest tokens; 0 keeps all',
    min: 0,
    max: 1000,
    step: 1,
  },
  {
    key: 'topP',
    label: 'Top-p',
    hint: 'keep the likeliest tokens up to this share',
    min: 0,
    max: 1,
    step: 0.01,
  },
  {
    key: 'minP',
    label: 'Min-p',
    hint: 'drop tokens below this share of the likeliest',
    min: 0,
    max: 1,
    step: 0.01,
  },
  { key: 'repetitionPenalty', label: 'Repetition penalty', hint: '1 is off', min: 0.5, max: 2, step: 0.05 },
  { key: 'presencePenalty', label: 'Presence penalty', hint: '0 is off', min: -2, max: 2, step: 0.1 },
  { key: 'frequencyPenalty', label: 'Frequency penalty', hint: '0 is off', min: -2, max: 2, step: 0.1 },
  {
    key: 'seed',
    label: 'Seed',
    hint: 'same seed, same reply; empty draws one',
    min: 0,
    max: 2 ** 32 - 1,
    step: 1,
    optional: true,
  },
  { key: 'maxTokens', label: 'Longest reply', hint: 'in tokens', min: 1, max: 100_000, step: 1 },
];

/** System prompt, sampling, facts about the loaded model, and what the browser keeps. */
export function SettingsPanel({ onClose }: { readonly onClose: () => void }) {
  const panel = useRef<HTMLElement>(null);
  const closeButton = useRef<HTMLButtonElement>(null);
  useFocusReturn(panel);
  useEffect(() => closeButton.current?.focus(), []);
  return (
    <aside ref={panel} class="panel" id="settings" aria-label="Settings">
      <div class="panel-head">
        <h2>Settings</h2>
        <button ref={closeButton} type="button" class="button quiet" onClick={onClose}>
          Close
        </button>
      </div>
      <label class="setting setting-wide">
        <span class="setting-label">System prompt</span>
        <textarea
          class="field"
          rows={3}
          data-testid="system-prompt"
          value={settings.value.systemPrompt}
          onInput={(event) => change('systemPrompt', event.currentTarget.value)}
        />
      </label>
      <p class="setting-hint">The settings belong to this chat; a new chat begins with them.</p>
      <h3>Sampling</h3>
      {numberSettings.map((setting) => (
        <NumberField key={setting.key} setting={setting} />
      ))}
      <button type="button" class="button small" onClick={resetSettings}>
        {loadedModel.value ? 'Back to the model’s defaults' : 'Back to the defaults'}
      </button>
      <KvCacheChoice />
      <PersistentChoice />
      {loadedModel.value && <ModelFacts info={loadedModel.value} />}
      <StoredModels />
      <ThemeChoice />
    </aside>
  );
}

const themeNames: Readonly<Record<Theme, string>> = { system: 'As the system', light: 'Light', dark: 'Dark' };

function ThemeChoice() {
  return (
    <fieldset class="choice">
      <legend>Colours</legend>
      {themes.map((name) => (
        <label key={name}>
          <input
            type="radio"
            name="theme"
            data-testid={`theme-${name}`}
            checked={theme.value === name}
            onChange={() => {
              theme.value = name;
            }}
          />
          {themeNames[name]}
        </label>
      ))}
    </fieldset>
  );
}

function NumberField({ setting }: { readonly setting: NumberSetting }) {
  const { key, label, hint, min, max, step, optional } = setting;
  const hintId = `${key}-hint`;
  return (
    <div class="setting">
      <label class="setting-label" for={key}>
        {label}
      </label>
      <input
        id={key}
        class="field"
        type="number"
        inputMode="decimal"
        data-testid={`setting-${key}`}
        aria-describedby={hintId}
        min={min}
        max={max}
        step={step}
        value={settings.value[key] ?? ''}
        placeholder={optional ? 'random' : ''}
        onChange={(event) => {
          const input = event.currentTarget;
          const value = parse(input.value, setting);
          if (value !== undefined) change(key, value as Settings[NumberKey]);
          input.value = String(settings.value[key] ?? '');
        }}
      />
      <span class="setting-hint" id={hintId}>
        {hint}
      </span>
    </div>
  );
}

/** The number in range, null for an allowed empty field, undefined for what is no number. */
function parse(text: string, { min, max, step, optional }: NumberSetting): number | null | undefined {
  if (text.trim() === '') return optional ? null : undefined;
  const value = Number(text);
  if (!Number.isFinite(value)) return undefined;
  const inRange = Math.min(max, Math.max(min, value));
  return step === 1 ? Math.round(inRange) : inRange;
}
