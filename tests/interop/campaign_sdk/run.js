// Adobe's own JavaScript SDK for Campaign Standard against the sandbox.
//
//   node run.js path/to/endpoints.json [folder with node_modules]
//
// One line per check, a total at the end, exit code 1 when a check failed. NODE_EXTRA_CA_CERTS must name the sandbox's
// CA. The checks repeat what Adobe's end-to-end tests of the SDK expect (its folder `e2e`) and add what those leave out.
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { createRequire } = require('node:module')

const [, , endpointsFile, modules = __dirname] = process.argv
const endpoints = JSON.parse(fs.readFileSync(endpointsFile, 'utf8'))
const requireSdk = createRequire(path.join(path.resolve(modules), 'index.js'))
const { tenant, client_id: apiKey } = endpoints.credentials.campaign

// The SDK has no option for its host: the server's address in its OpenAPI document is changed before it reads it.
const SDK = '@adobe/aio-lib-campaign-standard'
requireSdk(`${SDK}/spec/api.json`).servers[0].url = endpoints.campaign.replace(`/${tenant}/`, '/{ORGANIZATION}/')
const sdk = requireSdk(SDK)

const checks = []
const check = (name, run) => checks.push({ name, run })
const shared = {}
let client

async function imsToken () {
  const { client_id, client_secret, scope } = endpoints.credentials.campaign
  const body = new URLSearchParams({ grant_type: 'client_credentials', client_id, client_secret, scope })
  const response = await fetch(endpoints.ims_token_url, { method: 'POST', body })
  assert.equal(response.status, 200)
  return (await response.json()).access_token
}

async function admin (method, where, body) {
  const options = { method, body: body && JSON.stringify(body) }
  const response = await fetch(endpoints.admin + where, options)
  assert.ok(response.ok, `${where}: ${response.status}`)
  return response.json()
}

const rejects = (run, pattern) => assert.rejects(run, error => {
  assert.match(String(error.message ?? error), pattern)
  return true
})

// --- metadata

check('metadata of profile, service and history', async () => {
  for (const name of ['profile', 'service', 'history']) {
    const { status, body } = await client.getMetadataForResource(name)
    assert.deepEqual([status, body.apiName, body.name], [200, 'resourceType', name])
    assert.ok(Object.keys(body.content).length > 3)
  }
})
check('metadata shows types, lengths as strings, enumeration values', async () => {
  const { content } = (await client.getMetadataForResource('profile')).body
  assert.deepEqual([content.email.type, content.email.length, content.email.category], ['string', '128', '03_emails'])
  assert.equal(content.gender.type, 'enumeration')
  assert.ok('male' in content.gender.values)
  assert.equal('cusVip' in content, false)
})
check('custom resources are listed', async () => {
  const { body } = await client.getCustomResources()
  assert.equal(body.cusPurchase.type, 'collection')
  assert.equal('cusStore' in body, false)
})
check('getMetadataForResourceExt', async () => {
  assert.equal((await client.getMetadataForResourceExt('cusPurchase')).status, 200)
})

// --- profiles

check('create a profile', async () => {
  const { status, body } = await client.createProfile({ firstName: 'Ada', lastName: 'Lovelace', email: 'ada@example.com' })
  assert.equal(status, 201)
  assert.match(body.PKey, /^@[\w-]{60,200}$/)
  assert.deepEqual([body.title, body.blackList, body.birthDate], ['Ada Lovelace (ada@example.com)', false, ''])
  shared.profile = body.PKey
})
check('get the profile', async () => {
  const { status, body } = await client.getProfile(shared.profile)
  assert.deepEqual([status, body.email], [200, 'ada@example.com'])
})
check('update the profile; its answer names the record', async () => {
  const { status, body } = await client.updateProfile(shared.profile, { firstName: 'Augusta', location: { city: 'London' } })
  assert.equal(status, 200)
  const after = (await client.getProfile(body.PKey)).body
  assert.deepEqual([after.firstName, after.lastName, after.location.city], ['Augusta', 'Lovelace', 'London'])
})
check('list profiles page by page along next', async () => {
  for (let n = 0; n < 7; n++) await client.createProfile({ email: `p${n}@example.com`, lastName: `L${n}` })
  const first = (await client.getAllProfiles({ lineCount: 3 })).body
  assert.equal(first.content.length, 3)
  let seen = first.content.length
  let next = first.next
  while (next) {
    const address = next.href.slice(endpoints.campaign.length + 1)
    const page = (await client.getDataFromRelativeUrl(address)).body
    seen += page.content.length
    next = page.next
  }
  assert.equal(seen, 8)
})
check('the count is behind its href', async () => {
  const { count } = (await client.getAllProfiles({})).body
  const address = count.href.slice(endpoints.campaign.length + 1)
  assert.deepEqual((await client.getDataFromRelativeUrl(address)).body, { count: 8 })
})
check('built-in filters: byText, byEmail', async () => {
  const emails = async (...parameters) => (await client.getAllProfiles(...parameters)).body.content.map(item => item.email)
  assert.deepEqual(await emails({ filters: ['byText'], text: 'Lovelace' }), ['ada@example.com'])
  assert.deepEqual(await emails({ filters: ['byEmail'], email: 'p3@example.com' }), ['p3@example.com'])
})
check('custom filters, and several filters at once', async () => {
  await admin('POST', '/campaign/profile', { externalId: 'crm-1', email: 'crm@example.com', lastName: 'Keyed' })
  const one = { filters: ['byExternalId'], hasCustomFilter: true, externalId_parameter: 'crm-1' }
  const both = { ...one, filters: ['byExternalId', 'byText'], text: 'nobody' }
  assert.equal((await client.getAllProfiles(one)).body.content[0].email, 'crm@example.com')
  assert.equal((await client.getAllProfiles(both)).body.content.length, 0)
})
check('ordering, ascending and descending; unknown parameters do nothing', async () => {
  const emails = async sort => (await client.getAllProfiles({ order: 'email', limit: 5, page: 0, ...sort })).body.content.map(item => item.email)
  const up = await emails({})
  assert.deepEqual(up, [...up].sort())
  assert.deepEqual(await emails({ descendingSort: true }), [...up].reverse())
})
check('custom fields show on the Ext endpoint only', async () => {
  assert.equal('cusVip' in (await client.getProfile(shared.profile)).body, false)
  assert.equal((await client.getProfileWithOrgUnit(shared.profile)).body.cusVip, false)
})

// --- history, services, organizational units

check('history of a profile, with its events', async () => {
  await admin('POST', '/logs', { profile: shared.profile, label: 'Send via email' })
  const { body } = await client.getHistoryOfProfile(shared.profile)
  assert.equal(body.events.metadata, 'subHisto')
  const address = body.events.href.slice(endpoints.campaign.length + 1)
  const [event] = (await client.getDataFromRelativeUrl(address)).body.content
  assert.deepEqual([event.category, event.type, event.label], ['email', 'outbound', 'Send via email'])
  assert.ok(event.mirrorPage.href)
})
check('services: create, get, list', async () => {
  const made = await client.createService({ name: 'SVC1', label: 'News', messageType: 'email' })
  assert.equal(made.status, 201)
  assert.equal((await client.getService(made.body.PKey)).body.label, 'News')
  assert.deepEqual((await client.getAllServices({})).body.content.map(item => item.name), ['SVC1'])
})
check('organizational units: list, update, set on a profile', async () => {
  const [unit] = (await client.getAllOrgUnits({})).body.content
  assert.equal((await client.updateOrgUnit(unit.PKey, { label: 'Everyone' })).status, 200)
  assert.equal((await client.getProfileWithOrgUnit(shared.profile)).body.orgUnit, null)
  assert.equal((await client.updateProfileOrgUnit(shared.profile, unit.PKey)).status, 200)
  assert.equal((await client.getProfileWithOrgUnit(shared.profile)).body.orgUnit.title, 'Everyone')
})

// --- custom resources

check('custom resources: create, list, update, delete', async () => {
  const made = await client.createCustomResource('cusPurchase', { cusD365id: 'd-1', cusContactId: 'crm-1', cusAmount: 12.5 })
  assert.equal(made.status, 201)
  const key = made.body.PKey
  const listed = (await client.getAllProfileAndServicesExt('cusPurchase', {})).body.content
  assert.equal(listed[0].cusProfileLink.title, 'Keyed (crm@example.com)')
  assert.equal((await client.getAllCustomResources('cusPurchase', {})).body.content.length, 1)
  assert.equal((await client.updateCustomResource('cusPurchase', key, { cusAmount: 20 })).status, 200)
  assert.ok([200, 204].includes((await client.deleteCustomResource('cusPurchase', key)).status))
  assert.equal((await client.getAllProfileAndServicesExt('cusPurchase', {})).body.content.length, 0)
})
check('resources without a link to profiles are under customResources', async () => {
  await admin('POST', '/campaign/cusStore', { cusD365id: 's-1', cusName: 'Store' })
  assert.equal((await client.getAllBasicCustomResources('cusStore')).body.content[0].cusName, 'Store')
  await rejects(client.getAllProfileAndServicesExt('cusStore', {}), /404/)
})
check('an unknown custom resource is refused, whatever is asked of it', async () => {
  await rejects(client.getAllCustomResources('cusNothing', {}), /404/)
  await rejects(client.createCustomResource('cusNothing', { a: 1 }), /404/)
  await rejects(client.deleteCustomResource('cusNothing', '@x'), /404/)
})
check('a custom key in place of a PKey', async () => {
  assert.equal((await client.getProfileWithOrgUnit('crm-1')).body.lastName, 'Keyed')
})

// --- workflows

check('workflow commands', async () => {
  for (const [command, state] of [['pause', 'paused'], ['resume', 'started'], ['STOP', 'stopped'], ['start', 'started']]) {
    await client.controlWorkflow('d365OptOutExport', command)
    assert.equal((await client.getWorkflow('d365OptOutExport')).body.state, state)
  }
  await rejects(client.getWorkflow('nothing'), /404/)
})
check('a signal, and a second one within ten minutes', async () => {
  const { activity } = (await client.getWorkflow('d365OptOutExport')).body.activities
  const signal = () => client.triggerSignalActivity(activity.signal.trigger.href, { source: 'API', parameters: { day: 'today' } })
  assert.equal('payload' in await signal(), false)
  assert.match((await signal()).payload, /^T/)
})

// --- privacy, transactional events

check('a GDPR access request and its data', async () => {
  const wanted = { namespaceName: 'AMCDS2', reconciliationValue: 'ada@example.com', label: 'A', regulation: 'gdpr', type: 'access' }
  const made = await client.createGDPRRequest({ ...wanted, name: 'PT1' })
  assert.equal(made.body.status, 'new')
  const listed = (await client.getGDPRRequest()).body.content
  assert.deepEqual(listed.map(item => [item.name, item.status]), [['PT1', 'complete']])
  const file = await client.getGDPRDataFile(made.body.privacyRequestData.href, 'PT1')
  assert.equal(file.profile[0].email, 'ada@example.com')
})
check('a GDPR delete request removes the profile', async () => {
  const wanted = { namespaceName: 'AMCDS2', reconciliationValue: 'p6@example.com', label: 'D', regulation: 'gdpr', type: 'delete' }
  await client.createGDPRRequest({ ...wanted, name: 'PT2' })
  assert.equal((await client.getAllProfiles({ filters: ['byEmail'], email: 'p6@example.com' })).body.content.length, 0)
})
check('transactional events: send, then ask', async () => {
  const sent = await client.sendTransactionalEvent('EVTcartAbandonment', { email: 'ada@example.com', ctx: { cart: 1 } })
  assert.equal(sent.body.status, 'pending')
  const found = await client.getTransactionalEvent('EVTcartAbandonment', sent.body.PKey)
  assert.equal(found.body.status, 'processed')
  await rejects(client.sendTransactionalEvent('EVTnothing', { email: 'a@example.com' }), /404/)
})

// --- errors

check('a bad token is 401', async () => {
  await rejects((await sdk.init(tenant, apiKey, 'bad')).getAllProfiles({}), /401.*Oauth token is not valid/)
})
check('a bad key is 403', async () => {
  await rejects((await sdk.init(tenant, 'bad', shared.token)).getAllProfiles({}), /403.*Api Key is invalid/)
})
check('a bad tenant is refused', async () => {
  await rejects((await sdk.init('nowhere', apiKey, shared.token)).getAllProfiles({}), /403|500/)
})
check('a body that is no JSON is answered with text', async () => {
  await rejects(client.updateProfile(shared.profile, '@gibberish'), /'@gibberish' is not a valid constant/)
})
check('data errors are 500 with their text, an unknown key is 404', async () => {
  await rejects(client.updateProfile(shared.profile, { gender: 'invalid' }), /500.*is not valid for the 'nms:recipient:gender'/)
  await rejects(client.updateProfile(shared.profile, { age: 3 }), /500.*read-only/)
  await rejects(client.getProfile('nobody'), /404.*Unable to find document/)
})
// The SDK reads plain text as YAML. Where that fails, as with text that starts with a quoted word, it shows the status
// alone; as a JSON string the same text comes through. Adobe documents neither form, so both are a setting.
for (const [format, prefix] of [['text', 'Internal Server Error'], ['json_string', '500']]) {
  check(`a malformed PKey and a duplicate key, errors as ${format}`, async () => {
    await admin('POST', '/settings', { error_format: format })
    const text = pattern => new RegExp(format === 'text' ? prefix : `${prefix}.*${pattern}`)
    await rejects(client.getProfile('@O5iRp40EGA'), text('attribute unknown'))
    await rejects(client.createService({ name: 'SVC1' }), text('already exists.*PGS-220000'))
  })
}
check('429 and 503 come through as they are', async () => {
  await admin('POST', '/faults', { system: 'campaign', status: 429, retry_after: 3, body: { error_code: '429050', message: 'Too many requests' } })
  await rejects(client.getAllProfiles({}), /429.*Too many requests/)
  await admin('POST', '/faults', { system: 'campaign', status: 503, body: { error_code: '503010', message: 'Could not validate the oauth token' } })
  await rejects(client.getAllProfiles({}), /503/)
})

async function main () {
  shared.token = await imsToken()
  client = await sdk.init(tenant, apiKey, shared.token)
  let failed = 0
  for (const { name, run } of checks) {
    try {
      await run()
      console.log(`ok - ${name}`)
    } catch (error) {
      failed += 1
      console.log(`not ok - ${name}: ${error.message ?? error}`)
    }
  }
  console.log(`${checks.length - failed} passed, ${failed} failed`)
  process.exitCode = failed ? 1 : 0
}

main()
