create or replace temp table touched_desired as
select "contactid" as "externalId",
       nullif("firstname", '') as "firstName",
       nullif("emailaddress1", '') as "email",
       "birthdate" as "birthDate",
       nullif("firstname", '') as "location.city",
       "numberofchildren" as "cusChildren",
       cast("creditlimit" as double) as "cusCredit",
       "donotemail" as "cusFlag",
       date_trunc('milliseconds', "modifiedon") as "lastContact"
from "contact"."snapshot"
where _page > 7;

create or replace temp table touched_mirror as
with found as materialized (
  select "externalId", "firstName", "email", "birthDate", "location.city", "cusChildren", "cusCredit", "cusFlag", "lastContact" from "contact"."mirror"
  where rowid in (
    select rowid from "contact"."mirror" where _hash in (select md5_number_lower(key) from "contact"."touched")
  )
)
select * from found where "externalId" in (select key from "contact"."touched");

delete from "contact"."change_set" where key in (select key from "contact"."touched");

insert into "contact"."change_set"
with difference as (
  select coalesce(d."externalId", m."externalId") as key,
         case when d."externalId" is null then 'delete'
              when e."externalId" is not null then 'adopt'
              when m."externalId" is not null then 'update'
              else 'insert' end as kind,
         list_filter([case when d."firstName" is distinct from m."firstName" then 'firstName' end, case when d."email" is distinct from m."email" then 'email' end, case when d."birthDate" is distinct from m."birthDate" then 'birthDate' end, case when d."location.city" is distinct from m."location.city" then 'location.city' end, case when coalesce(d."cusChildren", 0) <> coalesce(m."cusChildren", 0) then 'cusChildren' end, case when coalesce(d."cusCredit", 0) <> coalesce(m."cusCredit", 0) then 'cusCredit' end, case when coalesce(d."cusFlag", false) <> coalesce(m."cusFlag", false) then 'cusFlag' end, case when d."lastContact" is distinct from m."lastContact" then 'lastContact' end], lambda name: name is not null) as changed
  from touched_desired as d
  full join touched_mirror as m on d."externalId" = m."externalId"
  left join "contact"."existing" as e on d."externalId" = e."externalId"
  where (m."externalId" is null
   or d."externalId" is null
     or d."firstName" is distinct from m."firstName" or d."email" is distinct from m."email" or d."birthDate" is distinct from m."birthDate" or d."location.city" is distinct from m."location.city" or coalesce(d."cusChildren", 0) <> coalesce(m."cusChildren", 0) or coalesce(d."cusCredit", 0) <> coalesce(m."cusCredit", 0) or coalesce(d."cusFlag", false) <> coalesce(m."cusFlag", false) or d."lastContact" is distinct from m."lastContact")
)
select key, kind, case when kind = 'update' then changed end as changed, case kind when 'insert' then 1 when 'update' then 2 when 'adopt' then 2 when 'delete' then 1 end as engine_calls
from difference;
