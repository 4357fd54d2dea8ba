import { render } from 'preact';
import { App } from './app';
import { start } from './state/model';
import './styles/base.css';
import './styles/layout.css';
import './styles/chat.css';
import './styles/panel.css';
import './styles/motion.css';

render(<App />, document.getElementById('app')!);
start();
