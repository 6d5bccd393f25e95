// What the page says, in English and Chinese, and how it says times.

const EN = {
  all: 'All accounts', comments: 'Comments', messages: 'Messages', both: 'All', other: '中文', otherCode: 'zh',
  live: 'live', behind: n => `catching up, ${n} changes`, caught: n => `live, ${n} changes caught up`,
  away: t => `offline since ${t}`, connecting: 'connecting', older: 'Show older', back: '‹ Back',
  fresh: n => `${n} new`, readOn: 'show all', open: 'open', picture: n => `picture ${n}`, 
  noThreads: 'No comments or messages yet. They appear here as soon as a worker has captured them.',
  noRows: 'Nothing here yet.', choose: 'Choose a thread on the left.', loading: 'Loading…',
  failed: why => `This cannot be loaded: ${why}`, retry: 'Try again', nobody: 'nobody',
  edited: 'edited', recalledBy: 'This message was recalled.',
  deletedBy: 'This comment was deleted.', earlier: 'reply to a comment further up', own: 'you', undated: 'Undated',
  work: 'Work', conversation: 'Conversation', since: t => `since ${t}`, for: t => ` for ${t}`,
  worker: w => `at worker ${w}`, views: n => `${n} views`, likes: n => `${n} likes`, removed: 'deleted',
  kinds: { image: 'picture', video: 'video', audio: 'sound', file: 'file', link: 'link', card: 'card' },
  states: { starting: 'starting', capturing: 'capturing', silent: 'delivers nothing', logged_out: 'logged out',
    failing: 'failing', cut_off: 'cut off from the broker', paused: 'paused', unassigned: 'held by no worker',
    removed: 'removed', erasing: 'being erased', unknown: 'not known' },
  unconfigured: 'not configured',
  last: t => t ? `last snapshot ${t}` : 'no snapshot yet',
  noMaster: t => `The master does not answer${t}: what you see is what was loaded before.`,
  noBroker: (t, last) => `No connection to the broker${t}: nothing new arrives; ${last}.`,
  noWorker: last => `No worker is online: nothing is being captured; ${last}.`,
  waiting: last => `The broker has just been connected to: waiting for the workers’ heartbeats; ${last}.`,
  untold: last => `It cannot be told which workers are online; ${last}.`,
  noAccount: 'No account yet: add one with snapfleet-master accounts add.',
  allPaused: (n, last) => n === 1 ? `The account is paused; ${last}.` : `All ${n} accounts are paused; ${last}.`,
  andPaused: (last, n) => `${last}; ${n} paused`,
  allWell: (n, last) => n === 1 ? `The account is being captured; ${last}.`
    : `All ${n} accounts are being captured; ${last}.`,
  starting: (n, all, k, u, last) => `${n} of ${all} accounts are being captured${k ? `, ${k} starting` : ''}${
    u ? `, ${u} waiting for a worker’s heartbeat` : ''}; ${last}.`,
  ill: (n, all, names, last) => `${n} of ${all} accounts ${n === 1 ? 'is' : 'are'} not being captured: ${names}; ${last}.`,
  moreIll: n => `${n} more`, list: '; ', paren: s => ` (${s})`,
  kept: n => `${n} record${n === 1 ? '' : 's'} kept: comments and messages`,
  accounts: n => `${n} account${n === 1 ? '' : 's'}`, problems: n => `${n} problem${n === 1 ? '' : 's'}: what helps`,
  problem: p => [p.text, p.remedy],
  login: 'Log in', loginOf: a => `Log in ${a}`, loginClose: 'Close', loginPicture: 'Login page',
  loginParts: { code: 'Code', page: 'Page' }, loginText: 'Text for the page, such as a code by SMS', loginType: 'Type',
  loginKeys: { enter: 'Enter', tab: 'Tab', backspace: 'Backspace', escape: 'Escape' },
  loginEnter: 'Enter in the field types the text and then presses Enter on the page; “Type” only types it.',
  loginAsked: 'Asking its worker for the page…', loginSlow: 'no answer came in time',
  loginLong: 'the text is too long; type it in parts', loginFailed: why => `It did not work: ${why}`,
  loginScan: 'Scan this code with the app of the account’s owner.', loginClick: 'A click in the picture is a click on the page.',
  loginDone: a => `${a} is logged in. Capturing goes on by itself.`,
  loginOut: (t, why) => `Logged out${t ? ` since ${t}` : ''}${why ? `: ${why}` : ''}.`,
  loginPending: t => `Nothing reloads the page until ${t}, or longer while you look at it.`,
  loginCodeAlt: 'The code to scan', loginPageAlt: p => `Live picture of the page “${p}”`,
  loggedOut: (t, why) => `Logged out${t ? ` since ${t}` : ''}${why ? ` (${why})` : ''}: nothing newer is being captured.`,
};

const ZH = {
  all: '全部账号', comments: '评论', messages: '私信', both: '全部', other: 'English', otherCode: 'en',
  live: '实时', behind: n => `正在补齐，${n} 条变更`, caught: n => `实时，已补齐 ${n} 条变更`,
  away: t => `${t} 起离线`, connecting: '连接中', older: '查看更早', back: '‹ 返回',
  fresh: n => `${n} 条新消息`, readOn: '展开全文', open: '打开', picture: n => `图片 ${n}`,
  noThreads: '还没有评论或私信。采集到后会立即显示在这里。',
  noRows: '这里还没有内容。', choose: '请在左侧选择一个会话。', loading: '加载中…',
  failed: why => `无法加载：${why}`, retry: '重试', nobody: '未知',
  edited: '已编辑', recalledBy: '此消息已撤回。',
  deletedBy: '此评论已删除。', earlier: '回复更早的评论', own: '我', undated: '时间未知',
  work: '作品', conversation: '会话', since: t => `自 ${t}`, for: t => `（已 ${t}）`,
  worker: w => `采集端 ${w}`, views: n => `${n} 次播放`, likes: n => `${n} 个赞`, removed: '已删除',
  kinds: { image: '图片', video: '视频', audio: '语音', file: '文件', link: '链接', card: '卡片' },
  states: { starting: '启动中', capturing: '采集中', silent: '没有数据', logged_out: '已退出登录',
    failing: '出错', cut_off: '与消息服务器断开', paused: '已暂停', unassigned: '没有采集端',
    removed: '已移除', erasing: '正在删除', unknown: '状态未知' },
  unconfigured: '未配置',
  last: t => t ? `最近一次快照：${t}` : '还没有快照',
  noMaster: t => `主服务没有响应${t}：当前显示的是之前加载的内容。`,
  noBroker: (t, last) => `与消息服务器的连接已断开${t}，没有新数据；${last}。`,
  noWorker: last => `没有在线的采集端，当前没有采集任何数据；${last}。`,
  waiting: last => `刚刚连上消息服务器，正在等待采集端的心跳；${last}。`,
  untold: last => `无法得知哪些采集端在线；${last}。`,
  noAccount: '还没有账号：请用 snapfleet-master accounts add 添加。',
  allPaused: (n, last) => `${n} 个账号全部已暂停；${last}。`,
  andPaused: (last, n) => `${last}；${n} 个已暂停`,
  allWell: (n, last) => `${n} 个账号全部采集正常；${last}。`,
  starting: (n, all, k, u, last) => `${all} 个账号中 ${n} 个采集正常${k ? `，${k} 个启动中` : ''}${
    u ? `，${u} 个在等待采集端的心跳` : ''}；${last}。`,
  ill: (n, all, names, last) => `${all} 个账号中有 ${n} 个未在采集：${names}；${last}。`,
  moreIll: n => `另有 ${n} 个`, list: '；', paren: s => `（${s}）`,
  kept: n => `已保存 ${n} 条记录（评论和私信）`,
  accounts: n => `${n} 个账号`, problems: n => `${n} 个问题及处理办法`,
  problem: p => {
    const d = p.detail ? `：${p.detail}` : '';
    if (p.code.startsWith('account_') && !p.account) {
      return [`另有 ${p.detail} 个账号有同类问题`, '查看全部：snapfleet-master accounts list'];
    }
    switch (p.code) {
      case 'store_failed': return [`存储写入已停止${d}，新数据不再保存`, '请排除原因后重启主服务'];
      case 'broker_disconnected': return [`与消息服务器 ${p.detail} 的连接已断开，没有新数据`, '请检查 nats-server 是否在运行，恢复后主服务会自动继续'];
      case 'intake_failed': return [`数据流读取异常${d}`, '请查看主服务日志，它会自动重试'];
      case 'workers_unknown': return [`无法得知哪些采集端在线${d}`, '请查看主服务日志，它会自动重试'];
      case 'no_workers': return ['没有在线的采集端，当前没有采集任何数据', '请启动：snapfleet-worker run，或让主服务带 --workers N 启动'];
      case 'account_unwell': return [`${p.account} ${ZH.states[p.state] || p.state}${p.state === 'logged_out' ? '，未在采集' : ''}${d}`, ({
        silent: '请查看采集端日志，并在浏览器中打开该账号的页面',
        logged_out: `请点击“登录”，或运行：snapfleet-worker login ${p.account}；自动登录所用的信息用 snapfleet-master accounts set ${p.account} 修改`,
        failing: '请按原因处理，采集端会自动重试',
        cut_off: '请恢复采集端与消息服务器的连接，之后会自动继续' })[p.state] || p.remedy];
      case 'account_unassigned': return [`${p.account} 没有在线的采集端负责，未在采集${d}`, '请启动一个支持该平台、带有所需标签且有空位的采集端'];
      case 'account_unconfigured': return [`${p.account} 未配置：数据照常保存，但没有采集端会采集它`, `snapfleet-master accounts add ${p.account}，或 snapfleet-master accounts remove ${p.account}`];
      case 'account_fault': return [`${p.account}${d}`, '请查看其采集端的日志'];
      // One entry of many, or all of them.
      case 'accounts_unreadable': return p.since === null
        ? [`账号配置中的条目 ${p.detail} 无法读取，不会采集`, `请以 master 用户删除后重新添加：nats --inbox-prefix _INBOX_master kv del accounts ${p.detail}`]
        : [`账号配置无法读取${d}；显示的是之前的账号和采集端`, '请查看主服务日志，它会自动重试'];
      case 'left_behind': return [`采集端 ${p.worker} 的磁盘上有 ${p.account} 的 ${p.detail} 条记录，该账号现由另一采集端负责`, '请保留其 state_dir：再次负责该账号时会继续提交'];
      case 'worker_fault': return [`采集端 ${p.worker}${d}`, '请查看该采集端的日志'];
      case 'broker_fault': return [`消息服务器报告${d}`, '请对照 nats.conf 检查主服务用户的权限，并查看消息服务器日志'];
      case 'worker_given_up': return [`采集端 ${p.worker} 连续多次启动即退出，不再自动启动${d}`,
        `请查看其日志（snapfleet-master workers 会列出路径）并排除原因，然后：snapfleet-master workers start ${p.worker}`];
      case 'replica_silent': {
        const [name, host, behind] = p.detail.split(' ');
        return [`${host} 上的副本 ${name} 没有消息，${/^\d+$/.test(behind) ? `落后 ${behind} 条消息` : '落后多少未知'}`,
          `请重新启动它；若不再使用：snapfleet-master replica remove ${name}`];
      }
      case 'other_master': return [`另一个主服务（${p.detail}）也在通过同一消息服务器写入`, '请停止其中一个；只读的应作为副本启动：--replica NAME'];
      case 'copies_few': return [`消息服务器是集群，但数据只有 ${p.detail} 份副本`, '请以 SNAPFLEET_REPLICAS=3 启动主服务'];
      case 'erasure_failed': return [`删除无法继续${d}`, '请查看主服务日志，它会自动重试'];
      case 'erasure_pending': return [`删除尚未在消息服务器上完成${d}`, '请等待所列副本跟上，或移除它：snapfleet-master replica remove NAME'];
      case 'erasure_contradicted': return [`账号已被删除，但配置中没有删除记录${d}`, '请再次删除，或重新添加该账号'];
      case 'replica_fault': return [`副本的进度无法读取或上报${d}`, '请查看日志，它会自动重试'];
      case 'dead_letters': return [`${p.detail} 个快照无法写入，已保留为死信`, '查看：snapfleet-master dead-letters'];
    }
    return [p.text, p.remedy];
  },
  login: '登录', loginOf: a => `登录 ${a}`, loginClose: '关闭', loginPicture: '登录页面',
  loginParts: { code: '二维码', page: '页面' }, loginText: '输入到页面的文字，例如短信验证码', loginType: '输入',
  loginKeys: { enter: '回车', tab: 'Tab', backspace: '退格', escape: 'Esc' },
  loginEnter: '在此框中按回车：输入文字并在页面上按回车；“输入”只输入文字。',
  loginAsked: '正在向采集端请求页面…', loginSlow: '没有及时收到应答',
  loginLong: '文字太长，请分几次输入', loginFailed: why => `未成功：${why}`,
  loginScan: '请用账号所有者手机上的应用扫描此码。', loginClick: '在图片上点击，即在页面上点击。',
  loginDone: a => `${a} 已登录，采集会自动继续。`,
  loginOut: (t, why) => `${t ? `自 ${t} 起` : ''}已退出登录${why ? `：${why}` : ''}。`,
  loginPending: t => `${t} 之前不会重新加载页面，查看期间会自动延长。`,
  loginCodeAlt: '要扫描的码', loginPageAlt: p => `页面“${p}”的实时图片`,
  loggedOut: (t, why) => `${t ? `自 ${t} 起` : ''}已退出登录${why ? `（${why}）` : ''}，此后没有采集新内容。`,
};

const asked = new URLSearchParams(location.search).get('lang');
const chosen = asked || (navigator.language || 'en');
export const LANG = chosen.toLowerCase().startsWith('zh') ? 'zh' : 'en';
export const T = LANG === 'zh' ? ZH : EN;

const locale = LANG === 'zh' ? 'zh-CN' : 'en-GB';
const format = options => { const by = new Intl.DateTimeFormat(locale, options); return ms => by.format(ms); };
const thisYear = format({ day: 'numeric', month: 'short', weekday: 'short' });
const anyYear = format({ day: 'numeric', month: 'short', year: 'numeric' });

const UNITS = LANG === 'zh' ? [' 秒', ' 分钟', ' 小时', ' 天'] : [' s', ' min', ' h', ' d'];

let skew = 0;
/** Takes over the master's clock: this machine's may be wrong. */
export const setClock = ms => { skew = ms - Date.now(); };
export const now = () => Date.now() + skew;

/** A moment that a date can hold, or null: platforms may claim any number. */
export const dated = ms => (Number.isFinite(ms) && Math.abs(ms) < 8e15 ? ms : null);
export const exact = format({ dateStyle: 'medium', timeStyle: 'medium' });
export const clock = format({ hour: '2-digit', minute: '2-digit', hour12: false });
export const day = ms => (new Date(ms).getFullYear() === new Date().getFullYear() ? thisYear : anyYear)(ms);

/** The time between two moments in its largest unit. */
export function lasted(from, now) {
  const s = Math.max(0, Math.floor((now - from) / 1000));
  const [size, unit] = s < 60 ? [1, 0] : s < 3600 ? [60, 1] : s < 86400 ? [3600, 2] : [86400, 3];
  return Math.floor(s / size) + UNITS[unit];
}

/** How long ago a moment is. */
export function ago(at, now) {
  if (now - at < 1000) return LANG === 'zh' ? '刚刚' : 'just now';
  return LANG === 'zh' ? lasted(at, now) + '前' : lasted(at, now) + ' ago';
}
